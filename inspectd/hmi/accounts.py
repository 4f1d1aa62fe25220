"""Who may do what on the page: users with roles in a file, and sessions in memory.

The file is JSON that `inspectd hmi-user` writes: names, roles, and passwords as scrypt hashes (RFC 7914).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from inspectd.atomic import write_whole
from inspectd.credentials import check_secret
from inspectd.errors import UsageError
from inspectd.reading import read_regular

MOST_BYTES = 1 << 20
SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 15, 8, 1
"""32 MiB, some 0.1 s a password; OWASP's Password Storage Cheat Sheet lists 2^17 for servers, a panel PC has less."""
SHORTEST = 8
"""Characters of a password."""
IDLE_S = 12 * 3600.0
"""A session that nobody uses for so long is over: a shift and a half."""
MOST_SESSIONS = 500
MOST_FAILURES = 5
"""Wrong passwords for a name, or from an address, before it waits."""
WAIT_S = 30.0


class Role(StrEnum):
    """What a user may do; each may do what those before it may."""

    VIEWER = "viewer"
    """Watch."""
    OPERATOR = "operator"
    """Trigger, mark, bypass, choose the recipe, begin a new count."""
    ENGINEER = "engineer"
    """Threshold, model, calibration."""

    def may(self, needed: Role) -> bool:
        """Whether this role includes another one."""
        order = tuple(Role)
        return order.index(self) >= order.index(needed)


UserName = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z", description="letters, digits, ., _ and -, at most 32"),
]


class User(msgspec.Struct, frozen=True):
    """One user of the file."""

    role: Role
    salt: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    scrypt: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    """Of the password, N = 2^15, r = 8, p = 1, 32 bytes."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    users: dict[UserName, User]


def read_users(path: Path) -> dict[str, User]:
    """Return the users of a file; UsageError: it cannot be read, others can read it, or it is not what was expected."""
    try:
        text = read_regular(path, MOST_BYTES)
        check_secret(path, f"The users' file {path}")
        found = msgspec.json.decode(text, type=_File)
    except FileNotFoundError:
        raise UsageError(
            f"There is no users' file {path}; write one with: inspectd hmi-user NAME --users {path}"
        ) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"The users' file {path} cannot be read: {why}.") from None
    if found.version != 1:
        raise UsageError(f"The users' file {path} has version {found.version}; this inspectd knows 1.")
    return dict(found.users)


def write_users(path: Path, users: dict[str, User]) -> None:
    """Write a users' file whole; only its owner can read it."""
    encoded = msgspec.json.format(msgspec.json.encode(_File(1, users)), indent=1)
    write_whole(path, encoded, 0o600)


def new_user(role: Role, password: str) -> User:
    """Return a user with a password; UsageError: it is too short."""
    if len(password) < SHORTEST:
        raise UsageError(f"The password has {len(password)} characters; expected at least {SHORTEST}.")
    salt = secrets.token_bytes(16)
    return User(role, salt.hex(), _scrypt(password, salt).hex())


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=2 * 128 * SCRYPT_N * SCRYPT_R, dklen=32
    )


_NOBODY = User(Role.VIEWER, "00" * 16, "00" * 32)
"""Checked where a name is not known, so that the answer takes as long."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks."""

    name: str | None
    """None: who did not log in."""
    role: Role
    could_log_in: bool = False
    """Names that were not proved are noted as such."""


@dataclass(slots=True)
class _Session:
    name: str
    used_s: float


class TooManyError(Exception):
    """Wrong passwords came too often; the message says how long to wait."""


class Accounts:
    """Users and their sessions. For any thread; `login` takes a tenth of a second."""

    def __init__(self, path: Path | None, anyone: Role | None, clock: Callable[[], float] = time.monotonic) -> None:
        """`anyone`: the role of who has not logged in; None: nothing is shown to them. UsageError as `read_users`."""
        self.anyone = anyone
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._hashing = threading.Lock()
        """One password is hashed at a time: a flood of logins costs one core and 32 MiB, and no more."""
        self._sessions: dict[bytes, _Session] = {}
        self._failures: dict[str, tuple[int, float]] = {}
        self._users: dict[str, User] = {}
        self._read_at: tuple[int, int] | None = None
        if path is not None:
            self._users, self._read_at = read_users(path), _version_of(path)

    @property
    def has_users(self) -> bool:
        """Whether anybody can log in."""
        return self._path is not None

    def login(self, name: str, password: str, address: str) -> str | None:
        """Return a new session's token; None: name or password is wrong. TooManyError."""
        self._refresh()
        guesses = (f"{name} from {address}", address)  # a name alone would lock out whoever has it
        for who in guesses:
            self._check_failures(who)
        user = self._users.get(name, _NOBODY)
        with self._hashing:
            is_right = hmac.compare_digest(_scrypt(password[:1024], bytes.fromhex(user.salt)).hex(), user.scrypt)
        if not is_right or name not in self._users:
            for who in guesses:
                self._note_failure(who)
            return None
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._failures.pop(f"{name} from {address}", None)
            while len(self._sessions) >= MOST_SESSIONS:
                del self._sessions[min(self._sessions, key=lambda key: self._sessions[key].used_s)]
            self._sessions[_key(token)] = _Session(name, self._clock())
        return token

    def logout(self, token: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_key(token), None)

    def person(self, token: str | None) -> Person | None:
        """Return who has a session, with the role that the file gives now; None: nobody, and nobody may look."""
        self._refresh()
        with self._lock:
            session = self._sessions.get(_key(token)) if token else None
            now_s = self._clock()
            if session is not None and now_s - session.used_s > IDLE_S:
                del self._sessions[_key(token or "")]
                session = None
            if session is not None and (user := self._users.get(session.name)) is not None:
                session.used_s = now_s
                return Person(session.name, user.role)
        return Person(None, self.anyone, self.has_users) if self.anyone is not None else None

    def _refresh(self) -> None:
        """Read the file again where it was written since; a removed user's sessions end, a bad file changes nothing."""
        if self._path is None:
            return
        version = _version_of(self._path)
        with self._lock:
            if version == self._read_at:
                return
            self._read_at = version
        try:
            users = read_users(self._path)
        except UsageError:  # half edited by hand, perhaps: who may today may until it is whole
            return
        with self._lock:
            changed = {name for name, one in self._users.items() if users.get(name) != one}
            self._sessions = {key: one for key, one in self._sessions.items() if one.name not in changed}
            self._users = users

    def _check_failures(self, who: str) -> None:
        with self._lock:
            count, last_s = self._failures.get(who, (0, 0.0))
            left_s = last_s + WAIT_S - self._clock()
        if count >= MOST_FAILURES and left_s > 0:
            raise TooManyError(f"Too many wrong passwords; wait {left_s:.0f} s.")

    def _note_failure(self, who: str) -> None:
        with self._lock:
            now_s = self._clock()
            self._failures = {key: one for key, one in self._failures.items() if now_s - one[1] < WAIT_S}
            count, _ = self._failures.get(who, (0, 0.0))
            if len(self._failures) < 10_000 or count:
                self._failures[who] = (count + 1, now_s)


def _key(token: str) -> bytes:
    """Sessions are kept by a hash: comparing tokens tells nothing by its time."""
    return hashlib.sha256(token.encode()).digest()


def _version_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
