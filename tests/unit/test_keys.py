"""Key files: what is written, what is read, and what is refused in one sentence."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import zmq.auth
from hypothesis import given
from hypothesis import strategies as st

from inspectd.errors import StartError, UsageError
from inspectd.wire import keys
from inspectd.wire.keys import KeyPair, read_allowed, read_pair, read_public, write_pair

PAIR = KeyPair.new()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The files of PAIR: public, secret."""
    return write_pair(tmp_path, "plc7", PAIR)


def test_what_is_written_is_read_again_and_by_pyzmq_too(pair: tuple[Path, Path]) -> None:
    public, secret = pair
    assert read_public(public) == PAIR.public
    assert read_pair(secret) == PAIR
    assert zmq.auth.load_certificate(public) == (PAIR.public, None)
    assert zmq.auth.load_certificate(secret) == (PAIR.public, PAIR.secret)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert PAIR.secret.decode() not in repr(PAIR)


def test_what_pyzmq_writes_is_read(tmp_path: Path) -> None:
    public, secret = map(Path, zmq.auth.create_certificates(tmp_path, "top"))
    secret.chmod(0o600)
    assert read_public(public) == read_pair(secret).public


@pytest.mark.parametrize("name", ["", "a b", "../a", "-a", "ä", "a" * 65, "a/b", ".a"])
def test_a_name_that_names_nobody(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="names nobody"):
        write_pair(tmp_path, name, PAIR)
    assert list(tmp_path.iterdir()) == []


def test_keys_are_never_overwritten(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    before = [path.read_bytes() for path in pair]
    with pytest.raises(UsageError, match="is there already"):
        write_pair(tmp_path, "plc7", KeyPair.new())
    assert [path.read_bytes() for path in pair] == before


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot be written"):
        write_pair(tmp_path / "file", "a", PAIR)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_secret_that_others_can_read(pair: tuple[Path, Path], mode: int) -> None:
    pair[1].chmod(mode)
    with pytest.raises(UsageError, match=f"has mode {mode:03o}.*chmod 600"):
        read_pair(pair[1])


SECRET = PAIR.secret.decode()
OTHER = KeyPair.new().public.decode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no public key"),
        ("hello", "holds no public key"),
        ('public-key = ""', "its public-key is damaged"),
        ('public-key = "short"', "its public-key is damaged"),
        (f'public-key = "{OTHER[:-1]}~"', "its public-key is damaged"),
        (f'public-key = "{OTHER}x"', "its public-key is damaged"),
        ('public-key = "' + "#" * 40 + '"', "its public-key is damaged"),
        ("\n" * 4000, "holds no public key"),
        (f'public-key = "{OTHER}"\npublic-key = "{OTHER}"', "two of public-key"),
        (f'# public-key = "{OTHER}"', "holds no public key"),
        (f'secret-key = "{SECRET}"', "holds a secret key; expected the public one"),
        ('public-key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"', "an example from libzmq's manual"),
        ('public-key = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"', "an example from libzmq's manual"),
        ("\x00" * 20_000, "20000 bytes"),
        ("schlüssel", "it is no text"),
    ],
    ids=lambda _: "",
)
def test_a_file_that_is_no_public_key(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "a.key"
    path.write_text(text)
    with pytest.raises(UsageError, match=says) as refused:
        read_public(path)
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f'public-key = "{OTHER}"', "holds no secret key"),
        (f'public-key = "{OTHER}"\nsecret-key = "{SECRET}"', "does not belong to its secret key"),
        ('secret-key = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"', "an example from libzmq's manual"),
    ],
    ids=lambda _: "",
)
def test_a_file_that_is_no_secret_key(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "a.key_secret"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError, match=says) as refused:
        read_pair(path)
    assert SECRET not in str(refused.value)


def test_a_pipe_or_folder_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.key")
    (tmp_path / "folder.key").mkdir()
    for path in tmp_path.iterdir():
        with pytest.raises(UsageError, match="cannot be read as a key"):
            read_public(path)


@given(st.binary(max_size=200) | st.text("0aZ.-:+=^!/*?&<>()[]{}@%$#", min_size=40, max_size=40).map(str.encode))
def test_no_bytes_are_a_key_by_accident(data: bytes) -> None:
    if keys._is_key(data):
        assert len(data) == keys.KEY_TEXT
        assert zmq.utils.z85.encode(zmq.utils.z85.decode(data)) == data


def test_a_list_is_everybody_whose_file_can_be_used(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pair(tmp_path / "made", name, KeyPair.new())
    folder = tmp_path / "allow"
    folder.mkdir()
    for path in (tmp_path / "made").glob("*.key"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "again.key").write_bytes((folder / "b.key").read_bytes())
    (folder / "broken.key").write_text("public-key = nothing")
    (folder / "c d.key").write_text(f'public-key = "{OTHER}"')
    (folder / "s.key_secret").write_bytes((tmp_path / "made" / "a.key_secret").read_bytes())
    (folder / "README").write_text("who may watch")
    (folder / ".hidden.key").write_text("")
    allowed = read_allowed(folder)
    assert sorted(allowed.names.values()) == ["a", "again"]
    says = ["holds the same key as again", "its public-key is damaged", "names nobody", "holds a secret key"]
    assert len(allowed.problems) == len(says)
    for problem, part in zip(allowed.problems, says, strict=True):
        assert part in problem


@pytest.mark.parametrize(("make", "says"), [(False, "cannot be read as a folder"), (True, "holds no public keys")])
def test_a_list_that_lets_nobody_in(tmp_path: Path, make: bool, says: str) -> None:
    if make:
        (tmp_path / "allow").mkdir()
    with pytest.raises(UsageError, match=says):
        read_allowed(tmp_path / "allow")
