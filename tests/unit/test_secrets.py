"""Passwords stay inside: one function takes them out of whatever leaves the process."""

from __future__ import annotations

import pytest

from inspectd.cameras.sources import encoding_problem, parse_source, public_address
from inspectd.errors import UsageError
from inspectd.secrets import redact

ADDRESSES = {
    "http://admin:S3cret@10.0.0.5/video": "http://10.0.0.5/video",
    "rtsp://admin:pa#ss/w0rd@10.0.0.5:554/stream": "rtsp://10.0.0.5:554/stream",
    "rtsp://admin:a?b@10.0.0.5/stream": "rtsp://10.0.0.5/stream",
    "rtsp://admin:a@b@c@10.0.0.5/stream": "rtsp://10.0.0.5/stream",
    "rtsp://admin:12/34@10.0.0.5/stream": "rtsp://10.0.0.5/stream",
    "http://10.0.0.5/video?user=admin&password=S3cret": "http://10.0.0.5/video?…",
    "http://10.0.0.5/user=admin&password=S3cret&channel=1": "http://10.0.0.5/user=…&password=…&channel=1",
    "rtsp://10.0.0.5/stream": "rtsp://10.0.0.5/stream",
    "RTSP://u:p@h/x": "RTSP://h/x",
    "rtsp://admin:pa'ss@host/x": "rtsp://host/x",
    'rtsp://admin:p"w@host/x': "rtsp://host/x",
    "rtsp://admin:p[w@h/x": "rtsp://h/x",
    "rtsp:/admin:S3@h/x": "h/x",
    "admin:S3@10.0.0.5/stream": "10.0.0.5/stream",
    "sim://line?seed=1": "sim://line?seed=1",
    "/data/a@b": "/data/a@b",
    "0": "0",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_others_may_read_of_an_address(address: str) -> None:
    assert public_address(address) == ADDRESSES[address]


def test_a_sentence_is_redacted_word_by_word() -> None:
    text = "camera a: 'rtsp://u:p/w@h/x' cannot be opened; http://h/?api_key=abc&fps=5&u=me&p=x neither"
    assert redact(text) == "camera a: 'rtsp://h/x' cannot be opened; http://h/?api_key=…&fps=5&u=…&p=… neither"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("rtsp://admin:pa#ss/w0rd@h/x", "%23 for '#'"),
        ("rtsp://admin:pa?ss@h/x", "%3F for '?'"),
        ("rtsp://admin:p@ss@h/x", "%40 for '@'"),
        ("rtsp://admin:p[w@h/x", "%5B for '['"),
        ("rtsp://admin:pa%23ss@h/x", None),
        ("http://h/video?mail=a@b", None),
        ("rtsp://h/x", None),
        ("/data/a:b@c", None),
    ],
)
def test_characters_that_end_an_address_must_be_encoded(address: str, says: str | None) -> None:
    found = encoding_problem(address)
    assert (found is None) if says is None else (says in (found or ""))


@pytest.mark.parametrize(
    "address",
    ["rtps://admin:S3cret@h/x", "rtsp:/admin:S3cret@h/x", "rtsp//admin:S3cret@h", "admin:S3cret@h/x"],
)
def test_a_slip_in_an_address_is_refused_without_its_secret(address: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_source(address)
    assert "S3cret" not in str(error.value)


def test_brackets_in_a_simulations_address_are_a_sentence() -> None:
    with pytest.raises(UsageError, match="sim://line"):
        parse_source("sim://[x")
