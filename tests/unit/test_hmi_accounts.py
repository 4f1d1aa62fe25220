"""Who may do what on the operator's page."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inspectd.errors import UsageError
from inspectd.hmi import accounts
from inspectd.hmi.accounts import (
    IDLE_S,
    MOST_FAILURES,
    MOST_SESSIONS,
    WAIT_S,
    Accounts,
    Role,
    TooManyError,
    new_user,
    read_users,
    write_users,
)

PASSWORD = "correct horse"


class Clock:
    """One that is told the time."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "SCRYPT_N", 16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "users.json"
    write_users(found, {"anna": new_user(Role.ENGINEER, PASSWORD), "bob": new_user(Role.VIEWER, PASSWORD)})
    return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(path: Path, clock: Clock) -> Accounts:
    return Accounts(path, None, clock)


def logged_in(known: Accounts, name: str = "anna") -> str:
    token = known.login(name, PASSWORD, "10.0.0.1")
    assert token is not None
    return token


def test_a_role_includes_those_below_it() -> None:
    assert [[role.may(needed) for needed in Role] for role in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_only_the_right_password_begins_a_session(known: Accounts) -> None:
    assert known.person(None) is None
    assert known.person("made up") is None
    for name, password in (("anna", "wrong"), ("anna", ""), ("eve", PASSWORD), ("", ""), ("eve", "x" * 10**6)):
        assert known.login(name, password, "10.0.0.2") is None
    person = known.person(logged_in(known))
    assert person is not None
    assert (person.name, person.role) == ("anna", Role.ENGINEER)


def test_who_has_not_logged_in_is_what_anyone_may_be(path: Path) -> None:
    person = Accounts(path, Role.VIEWER).person(None)
    assert person is not None
    assert (person.name, person.role) == (None, Role.VIEWER)


def test_a_session_ends_when_it_is_ended_and_when_nobody_uses_it(known: Accounts, clock: Clock) -> None:
    token, other = logged_in(known), logged_in(known, "bob")
    known.logout(token)
    assert known.person(token) is None
    clock.s += IDLE_S - 1
    assert known.person(other) is not None
    clock.s += IDLE_S - 1
    assert known.person(other) is not None, "it was used meanwhile"
    clock.s += IDLE_S + 1
    assert known.person(other) is None


def test_who_is_taken_off_the_file_or_gets_another_password_is_out_at_once(known: Accounts, path: Path) -> None:
    anna, bob = logged_in(known), logged_in(known, "bob")
    users = read_users(path)
    write_users(path, {"anna": new_user(Role.OPERATOR, PASSWORD), "bob": users["bob"]})
    assert known.person(anna) is None
    assert known.person(bob) is not None
    again = known.person(logged_in(known))
    assert again is not None
    assert again.role is Role.OPERATOR
    write_users(path, {})
    assert known.person(bob) is None


def test_a_file_that_is_broken_meanwhile_changes_nothing(known: Accounts, path: Path) -> None:
    token = logged_in(known)
    path.write_text("{")
    assert known.person(token) is not None
    path.unlink()
    assert known.person(token) is not None


def test_guessing_waits(known: Accounts, clock: Clock) -> None:
    for _ in range(MOST_FAILURES):
        assert known.login("anna", "wrong", "10.0.0.1") is None
    with pytest.raises(TooManyError, match="wait 30 s"):
        known.login("anna", PASSWORD, "10.0.0.1")
    with pytest.raises(TooManyError):
        known.login("bob", PASSWORD, "10.0.0.1")
    assert known.login("anna", PASSWORD, "10.0.0.9"), "who guesses locks out nobody else"
    clock.s += WAIT_S + 1
    logged_in(known)


def test_sessions_and_failures_are_bounded(known: Accounts, clock: Clock) -> None:
    first = logged_in(known)
    for _ in range(MOST_SESSIONS):
        clock.s += 1
        logged_in(known, "bob")
    assert known.person(first) is None
    assert len(known._sessions) == MOST_SESSIONS


def test_failures_that_are_over_are_forgotten(known: Accounts, clock: Clock) -> None:
    for i in range(300):
        clock.s += 1
        known.login(f"name{i}", "wrong", f"10.0.{i // 256}.{i % 256}")
    assert len(known._failures) <= 2 * (WAIT_S + 1)


def test_passwords_are_not_in_the_file_and_only_its_owner_reads_it(path: Path) -> None:
    assert PASSWORD not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    users = read_users(path)
    assert users["anna"].scrypt != users["bob"].scrypt, "the same password"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"version": 1, "users": {"anna": {"role": "king", "salt": "", "scrypt": ""}}}', "cannot be read"),
        ('{"version": 1, "users": {"../x": {"role": "viewer", "salt": "", "scrypt": ""}}}', "cannot be read"),
        ('{"version": 2, "users": {}}', "has version 2; this inspectd knows 1"),
    ],
)
def test_a_users_file_that_cannot_be_understood_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "users.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError, match=says):
        read_users(path)


def test_a_users_file_that_others_read_or_that_is_not_there_says_what_to_do(path: Path) -> None:
    path.chmod(0o644)
    with pytest.raises(UsageError, match="has mode 644, so others can read it"):
        Accounts(path, None)
    path.unlink()
    with pytest.raises(UsageError, match="inspectd hmi-user NAME --users"):
        Accounts(path, None)
    os.mkfifo(path)
    with pytest.raises(UsageError, match="cannot be read"):
        Accounts(path, None)


def test_a_short_password_is_refused() -> None:
    with pytest.raises(UsageError, match="has 7 characters; expected at least 8"):
        new_user(Role.VIEWER, "1234567")
