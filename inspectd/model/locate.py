"""Which model a folder means."""

from __future__ import annotations

import json
from pathlib import Path

from inspectd.errors import UsageError
from inspectd.reading import read_regular

MAX_INDEX_BYTES = 1 << 20


def find_model(run: Path, number: int | None) -> Path:
    """Return the model folder that `run` means: itself, or the only (or the `number`-th) of a run folder."""
    if (run / "params.pkl").is_file() and number is None:
        return run
    try:
        index = json.loads(read_regular(run / "models" / "index.json", MAX_INDEX_BYTES))
        models = {int(one["i"]): f"{one['i']}: {one['class']} with {one['backbone']}" for one in index}
    except FileNotFoundError:
        raise UsageError(
            f"{run} is neither a run folder nor a model folder; expected results/PROJECT/GROUP/RUN as `inspectd "
            "calibrate` writes it, or one of its models/<i>."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{run / 'models' / 'index.json'} is damaged; name the model's own folder instead.") from None
    if number is None and len(models) == 1:
        number = next(iter(models))
    if number not in models:
        raise UsageError(
            f"{run} has these models, choose one with --model, or name its folder ({run / 'models'}/<number>): "
            f"{'; '.join(models.values())}."
        )
    return run / "models" / str(number)
