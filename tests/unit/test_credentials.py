"""Secrets that systemd hands over are found by their names, and a missing one is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from inspectd.credentials import FOLDER, check_secret, secret_path
from inspectd.errors import UsageError


@pytest.fixture
def handed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    return tmp_path


def test_a_path_is_a_path(handed: Path) -> None:
    assert secret_path("security.curve_secret", "/etc/keys/a.key_secret") == Path("/etc/keys/a.key_secret")


def test_a_credential_is_what_systemd_handed_over(handed: Path) -> None:
    (handed / "inspectd_line3.key_secret").write_text("of the folder")
    assert secret_path("s", "credential:line3.key_secret").read_text() == "of the folder"
    (handed / "line3.key_secret").write_text("named by itself")
    assert secret_path("s", "credential:line3.key_secret").read_text() == "named by itself"


def test_outside_the_service_it_is_the_folder_that_the_unit_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert secret_path("s", "credential:token") == FOLDER / "token"


def test_one_that_is_missing_is_one_sentence(handed: Path) -> None:
    with pytest.raises(
        UsageError, match=r"metrics.token_file is credential:token, which .* there is: none. Put the file"
    ):
        secret_path("metrics.token_file", "credential:token")
    (handed / "inspectd_other").write_text("")
    with pytest.raises(UsageError, match="there is: other"):
        secret_path("metrics.token_file", "credential:token")


@pytest.mark.parametrize("name", ["", "../shadow", "a/b", ".", "..", ".hidden", "a b", "x" * 129, "a\n"])
def test_what_is_no_name_is_refused(handed: Path, name: str) -> None:
    with pytest.raises(UsageError, match="expected credential:NAME"):
        secret_path("security.curve_secret", f"credential:{name}")


def test_what_systemd_hands_over_by_an_access_list_is_no_secret_that_others_read(handed: Path, tmp_path: Path) -> None:
    secret = handed / "inspectd_token"
    secret.write_text("secret")
    secret.chmod(0o440)
    check_secret(secret, "the token")
    secret.chmod(0o444)
    with pytest.raises(UsageError, match="the token holds a secret and has mode 444, so others can read it"):
        check_secret(secret, "the token")


def test_elsewhere_its_owner_alone_may_read_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "elsewhere"))
    secret = tmp_path / "token"
    secret.write_text("secret")
    secret.chmod(0o440)
    with pytest.raises(UsageError, match="has mode 440"):
        check_secret(secret, "the token")
