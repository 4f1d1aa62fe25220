"""To whom the operator's page may be served."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from inspectd.errors import UsageError
from inspectd.hmi.settings import Settings

PEM = Path("x.pem")


def settings(**more: Any) -> Settings:
    return Settings(published="ipc:///p", control="ipc:///c", **more)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"listen": "here"}, "--listen is 'here'; expected HOST:PORT"),
        ({"listen": "0.0.0.0:1"}, "can be reached from other machines; expected --users too"),
        ({"listen": "0.0.0.0:1", "users": PEM}, "expected --tls-cert and --tls-key too"),
        ({"listen": "10.0.0.1:1", "tls_cert": PEM, "tls_key": PEM}, "expected --users too"),
        ({"tls_cert": PEM}, "one is missing; expected both"),
        ({"below": "line1"}, "expected a path such as /line1"),
        ({"below": "/line1/"}, "expected a path such as /line1"),
    ],
)
def test_what_cannot_be_is_one_sentence(more: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        settings(**more).check()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"below": "/line1"},
        {"below": "/a/b"},
        {"listen": "0.0.0.0:1", "users": PEM, "tls_cert": PEM, "tls_key": PEM},
    ],
)
def test_what_can_be(more: dict[str, Any]) -> None:
    settings(**more).check()


def test_by_which_names_it_is_called() -> None:
    here = socket.gethostname()
    one = settings(names=("Panel.factory.example",))
    for host in (
        "127.0.0.1:9109",
        "10.1.2.3",
        "[::1]:9109",
        "localhost:9109",
        here,
        f"{here}.local:1",
        "panel.factory.example",
    ):
        assert one.is_named(host), host
    for host in (
        "",
        "evil.example",
        "evil.example:9109",
        f"{here}.evil.example",
        "127.0.0.1.evil.example",
        "a;b",
        "1.2.3.4; x",
    ):
        assert not one.is_named(host), host
