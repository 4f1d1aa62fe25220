"""Small files beside the journal: what must be known also where the journal cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from inspectd.errors import UsageError
from inspectd.reading import read_regular

MOST_BYTES = 1 << 20
T = TypeVar("T")


def path_beside(journal: Path, what: str) -> Path:
    """Return where something is kept of the daemon with this journal."""
    return journal.with_name(f"{journal.name}.{what}.json")


class _Versioned(msgspec.Struct, frozen=True):
    version: int


def read_beside(path: Path, decoders: Mapping[int, Callable[[bytes], T]], holds: str, without: str) -> T | None:
    """Return what a file holds; None: there is none. UsageError: there is one, and it cannot be understood.

    `decoders`: one for each version that can be read. `holds`, `without`: what that is, and what follows where it is
    removed, as parts of a sentence.
    """
    try:
        text = read_regular(path, MOST_BYTES)
        version = msgspec.json.decode(text, type=_Versioned).version
        if version not in decoders:
            raise UsageError(
                f"{path}, which holds {holds}, has version {version}; this inspectd knows {max(decoders)}. Remove it "
                f"{without}, or install the inspectd that wrote it."
            )
        return decoders[version](text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(
            f"{path}, which holds {holds}, cannot be read: {why}. Restore it, remove it {without}, or set journal.path "
            "to another file."
        ) from None
