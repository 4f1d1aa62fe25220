"""Keys of CURVE in files, in the format of libzmq's own tools: who a daemon is, and who may talk to it.

A client makes a pair (`inspectd keygen NAME`), keeps NAME.key_secret and gives NAME.key away; whoever runs the daemon
puts that file into a folder. Its name is who the client is.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from inspectd.credentials import check_secret
from inspectd.errors import StartError, UsageError
from inspectd.reading import read_regular

PUBLIC, SECRET = ".key", ".key_secret"
"""Suffixes of the files: what may be given away, and what may not."""
MOST_BYTES = 4096
"""Of a key file; it has some hundred."""
MOST_KEYS = 10_000
"""In one folder."""
NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
KEY_TEXT = 40
"""Characters of a key as Z85 writes it (ZeroMQ RFC 32); 32 bytes."""
_EXAMPLES = frozenset(
    {
        b"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
        b"JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6",
        b"Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID",
        b"D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs",
    }
)
"""The pairs that libzmq's manual prints (zmq_curve): everybody has their secrets."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public key and the secret one that belongs to it, as Z85 writes them."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> KeyPair:
        """Return a pair that nobody else has."""
        return cls(*zmq.curve_keypair())


@dataclass(frozen=True, slots=True)
class Allowed:
    """Who is on a list."""

    names: Mapping[bytes, str]
    """By public key."""
    problems: Sequence[str] = ()
    """A sentence for each file that cannot be used; whoever it belongs to is not on the list."""


def read_pair(path: Path) -> KeyPair:
    """Read a secret key and its public one; UsageError says in one sentence what is wrong with the file."""
    keys = _read(path)
    if "secret-key" not in keys:
        raise UsageError(f"{path} holds no secret key; expected a file that `inspectd keygen` ends with {SECRET}.")
    check_secret(path, str(path))
    secret = keys["secret-key"]
    public = bytes(zmq.curve_public(secret))
    if keys.get("public-key", public) != public:
        raise UsageError(f"{path} holds a public key that does not belong to its secret key; make a new pair.")
    return KeyPair(public, secret)


def read_public(path: Path) -> bytes:
    """Read a public key, as Z85 writes it; UsageError says in one sentence what is wrong with the file."""
    keys = _read(path)
    if "secret-key" in keys:
        raise UsageError(
            f"{path} holds a secret key; expected the public one, a file that ends with {PUBLIC}. Who could read it "
            "here knows the secret: make a new pair."
        )
    if "public-key" not in keys:
        raise UsageError(f'{path} holds no public key; expected a line such as public-key = "…".')
    return keys["public-key"]


def read_allowed(folder: Path) -> Allowed:
    """Read all public keys of a folder; UsageError when there is no such folder, or nothing that looks like a key."""
    names: dict[bytes, str] = {}
    problems: list[str] = []
    try:
        files = sorted(path for path in folder.iterdir() if counts(path.name))
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be read as a folder of public keys: {error.strerror}. Make it, and put the {PUBLIC} file "
            "of each client there."
        ) from None
    if not files:
        raise UsageError(
            f"{folder} holds no public keys, so nobody could connect; put the {PUBLIC} file of each client there "
            "(`inspectd keygen NAME` makes one)."
        )
    for path in files[:MOST_KEYS]:
        try:
            key = read_public(path)
        except UsageError as error:
            problems.append(str(error))
            continue
        if not NAMES.fullmatch(path.stem):
            problems.append(f"{path} names nobody; expected letters, digits and . _ @ - before {PUBLIC}, 64 at most.")
        elif key in names:
            problems.append(f"{path} holds the same key as {names[key]}{PUBLIC}; expected each key once.")
        else:
            names[key] = path.stem
    if len(files) > MOST_KEYS:
        problems.append(f"{folder} holds {len(files)} keys; only the first {MOST_KEYS} count.")
    return Allowed(names, problems)


def counts(name: str) -> bool:
    """Whether a file of a folder is one of a list, or a mistake there; all others are nobody's."""
    return name.endswith((PUBLIC, SECRET)) and not name.startswith(".")


def write_pair(folder: Path, name: str, pair: KeyPair) -> tuple[Path, Path]:
    """Write NAME.key and NAME.key_secret, which only the owner can read; UsageError when one is there already."""
    if not NAMES.fullmatch(name):
        raise UsageError(f"{name!r} names nobody; expected letters, digits and . _ @ -, 64 at most.")
    public, secret = folder / f"{name}{PUBLIC}", folder / f"{name}{SECRET}"
    for path in (public, secret):
        if os.path.lexists(path):
            raise UsageError(
                f"{path} is there already; nothing was changed. Choose another name, or remove both files."
            )
    shown = f'    public-key = "{pair.public.decode()}"\n'
    texts = {
        secret: f"#   The secret key of {name}. Keep it where nobody else can read it.\n{_HEAD}{shown}"
        f'    secret-key = "{pair.secret.decode()}"\n',
        public: f"#   The public key of {name}. Give it to whoever {name} shall talk to.\n{_HEAD}{shown}",
    }
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if path == secret else 0o644)
            written.append(path)
            with open(fd, "w", encoding="ascii") as file:  # noqa: PTH123 - the descriptor that nobody else could open
                file.write(text)
                file.flush()
                os.fsync(fd)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise StartError(
            f"{folder} cannot be written: {error.strerror}. No keys were made; choose another place with --folder."
        ) from None
    return public, secret


_HEAD = "\nmetadata\ncurve\n"


def _read(path: Path) -> dict[str, bytes]:
    """Return the keys of a file by what they are; UsageError when one of them is no key."""
    try:
        text = read_regular(path, MOST_BYTES).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or ("it is no text" if isinstance(error, UnicodeError) else str(error))
        raise UsageError(f"{path} cannot be read as a key: {why}.") from None
    keys: dict[str, bytes] = {}
    for line in text.splitlines():
        kind, is_value, value = (part.strip() for part in line.partition("="))
        if not is_value or kind not in ("public-key", "secret-key"):  # a comment, or what else libzmq's tools write
            continue
        key = value.strip("\"'").encode()
        if kind in keys:
            raise UsageError(f"{path} holds two of {kind}; expected one.")
        if not _is_key(key):
            raise UsageError(
                f"{path}: its {kind} is damaged; expected {KEY_TEXT} characters as `inspectd keygen` writes them."
            )
        if key in _EXAMPLES:
            raise UsageError(
                f"{path} holds an example from libzmq's manual, whose secret everybody has; make a new pair."
            )
        keys[kind] = key
    return keys


def _is_key(text: bytes) -> bool:
    try:
        return len(text) == KEY_TEXT and z85.encode(z85.decode(text)) == text
    except (ValueError, KeyError, IndexError, OverflowError, struct.error):
        return False
