"""Mutated input everywhere: no traceback, no hang, bounded sentences, and the daemon judges on.

Every case is drawn by a seed. What is not refused must be right; what is refused is one error of ours.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq
from conftest import ROOT, write_small_model
from daemon_process import DaemonProcess
from torch import nn

from inspectd import config_file
from inspectd.errors import UsageError
from inspectd.simplenet import bundle
from inspectd.wire.results import ControlReply

SLOWEST_S = 2.0
LONGEST = 30_000
SHIPPED = (ROOT / "configs" / "inspectd.yaml").read_text()
ODD = [
    "!!int ''", "!!float '_'", "!!set {a}", "!!python/object:os.system x", "!!binary aGk=", "!!timestamp 2001-01-01",
    "!!bool x", "!!map x", "!!seq x", "!!omap [a: 1]", "[" * 40, "{" * 40, "&a [*a]", "*nowhere", "<<: 5", "? [a]",
    "1:" * 50 + "1", "9" * 400, "0x", ".nan", "-.inf", "1e999", "\0", "\x85", "\u2028", "'", '"', "|", ">", "%YAML 9",
    "---", "...", "\t", "é" * 200, "x" * 2000, "null", "[]", "{}", "- - -", "a: b: c", "cameras: 5",
    "cameras: [x, 5, {}]",
    "rtsp://u:p@h", "-1", "1e9", "true",
]  # fmt: skip


def mutated(text: str, rng: random.Random) -> str:
    lines = text.splitlines()
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(lines))
        kind = rng.randrange(7)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, lines[rng.randrange(len(lines))])
        elif kind == 2:
            lines[at] = lines[at].partition(":")[0] + ": " + rng.choice(ODD)
        elif kind == 3:
            lines[at] = rng.choice(ODD)
        elif kind == 4:
            lines[at] = " " * rng.randrange(6) + lines[at]
        elif kind == 5:
            cut = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:cut] + chr(rng.randrange(1, 0x3000)) + lines[at][cut:]
        else:
            lines[at] = lines[at] * rng.randrange(2, 20)
        lines = lines or [""]
    return "\n".join(lines)


def refusal(call: Callable[[], object]) -> str:
    """Return why a call is refused; nothing: it is not."""
    try:
        call()
    except UsageError as error:
        return str(error)
    return ""


def test_a_thousand_configurations() -> None:
    rng = random.Random(1)
    refused = 0
    for _ in range(1000):
        text = mutated(SHIPPED, rng)
        began_s = time.process_time()
        sentence = refusal(lambda text=text: config_file.parse(text))
        refused += bool(sentence)
        assert len(sentence) < LONGEST
        assert max(map(len, sentence.splitlines()), default=0) < 1000
        assert time.process_time() - began_s < SLOWEST_S
    assert refused > 500


@pytest.mark.parametrize(
    "text",
    [
        "x" * 5_000_000,
        "cameras:\n" + "- {name: a, source: 0, model: m}\n" * 20_000,
        "cameras: [" + "*a, " * 20_000 + "]",
        "a: &a [x]\n" + "".join(f"b{i}: &b{i} [*{'a' if i == 0 else f'b{i - 1}'}]\n" for i in range(2000)),
        "cameras:\n- &a {name: a, source: 0, model: m}\n" + "- *a\n" * 20_000,
        "k: " + "1:" * 20_000 + "1",
        "".join(f"key{i}: 1\n" for i in range(9000)),
        "a: " + "[" * 50_000,
    ],
    ids=range(8),
)
def test_large_configurations_are_refused_quickly_and_briefly(tmp_path: Path, text: str) -> None:
    path = tmp_path / "inspectd.yaml"
    path.write_text(text)
    began_s = time.process_time()
    with pytest.raises(UsageError) as error:
        config_file.load(path)
    assert len(str(error.value)) < LONGEST
    assert time.process_time() - began_s < 10 * SLOWEST_S


@pytest.mark.parametrize("kind", ["/dev/zero", "pipe", "folder", "latin-1"])
def test_what_is_no_configuration_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    import os

    path = tmp_path / "inspectd.yaml"
    if kind == "/dev/zero":
        path.symlink_to(kind)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"cameras: \xff")
    with pytest.raises(UsageError, match="cannot be read"):
        config_file.load(path)


FILES = ["ckpt.pth", "params.pkl", "calibration.json", "backbone.pth", "parity/000.png"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np

    folder = tmp_path_factory.mktemp("models")
    model = bundle.load(write_small_model(folder / "plain"))
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    (folder / "whole").mkdir()
    from dataclasses import replace

    bundle.save(folder / "whole", replace(model, parity=lambda: [picture]))
    return folder / "whole"


def broken(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    kind = rng.randrange(5)
    if kind == 0:
        return bytes(changed[: rng.randrange(len(changed))])
    if kind == 1:
        return bytes(rng.randbytes(rng.randrange(200)))
    if kind == 2:
        return bytes(changed) + rng.randbytes(50)
    for _ in range(rng.randrange(1, 20)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "the published two files"])
def test_two_hundred_of_each_model_file(whole: Path, tmp_path: Path, name: str, is_sealed: bool) -> None:
    rng = random.Random(name)
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    if not is_sealed:
        (folder / "calibration.json").unlink()
    data = (whole / name).read_bytes()
    backbones: dict[str, nn.Module] | None = {} if name.startswith("parity") else None  # read once where it is whole
    for _ in range(200 if is_sealed or name in ("ckpt.pth", "params.pkl") else 20):
        (folder / name).write_bytes(broken(data, rng))
        began_s = time.process_time()
        assert len(refusal(lambda: bundle.load(folder, shared=backbones).parity())) < 2000
        assert time.process_time() - began_s < 10 * SLOWEST_S  # two cores; a whole model takes half a second


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"5",
        b"null",
        b"[" * 100_000,
        b'{"digest": 1}',
        b'{"digest": "x", "threshold": NaN}',
        b'{"digest": "x"}',
        b"\xff",
    ],
)
def test_calibrations_that_are_none(whole: Path, tmp_path: Path, content: bytes) -> None:
    shutil.copytree(whole, tmp_path / "model")
    (tmp_path / "model" / "calibration.json").write_bytes(content)
    with pytest.raises(UsageError, match="damaged"):
        bundle.load(tmp_path / "model")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["endless", "pipe", "folder", "empty", "dangling"])
def test_model_files_that_are_no_files(whole: Path, tmp_path: Path, name: str, kind: str) -> None:
    import os

    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    path = folder / name
    path.unlink()
    if kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        path.symlink_to(tmp_path / "absent")
    with pytest.raises(UsageError):
        bundle.load(folder).parity()


def test_a_run_folder_is_its_only_model(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    shutil.copytree(whole, tmp_path / "models" / "0")
    index = [{"i": 0, "class": "top", "backbone": "lite0"}]
    (tmp_path / "models" / "index.json").write_text(json.dumps(index))
    assert bundle.load(tmp_path).label == bundle.load(whole).label
    (tmp_path / "models" / "index.json").write_text(json.dumps([*index, {"i": 1, "class": "b", "backbone": "x"}]))
    with pytest.raises(UsageError, match="1: b with x"):
        bundle.load(tmp_path)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("daemon")
    model = write_small_model(folder / "model", threshold=1e6)
    source = "sim://line?fps=20&width=80&height=64"
    with DaemonProcess(folder / "d", f'{{name: top, source: "{source}", model: {model}, deadline_ms: 5000}}') as one:
        one.listen(lambda d: len(d.verdicts) >= 3)
        yield one


def judges_on(daemon: DaemonProcess) -> None:
    before = sum(v["verdict"] == "ok" for v in daemon.verdicts)
    daemon.listen(lambda d: sum(v["verdict"] == "ok" for v in d.verdicts) >= before + 20, timeout_s=30)
    assert "Traceback" not in daemon.log
    assert memory_mb(daemon) < 2500


def memory_mb(daemon: DaemonProcess) -> float:
    return psutil.Process(daemon.process.pid).memory_info().rss / 1e6


VALID: list[dict[str, Any]] = [
    {"cmd": "status"},
    {"cmd": "verdicts", "camera": "top", "after": 3, "epoch": None, "limit": 5},
    {"cmd": "audit", "after": 0, "limit": 2},
    {"cmd": "threshold", "camera": "top", "value": 999_999.0, "by": "me", "why": "x", "dry_run": True},
    {"cmd": "threshold", "camera": "top", "value": -7, "by": "me", "why": None},
    {"cmd": "model", "camera": "top", "path": "/nowhere", "by": "me"},
    {"cmd": "bypass", "camera": "side", "seconds": 5, "by": "me", "why": "x"},
    {"cmd": "revert", "camera": "side", "by": "me"},
    {"cmd": "trigger", "camera": "top", "part": "p", "wait": True},
    {"cmd": "recipe", "camera": "top", "name": "A"},
    {"cmd": "reload"},
]
VALUES: list[Any] = [
    None, True, -1, 0, 2**63, 2**70, 1e308, "", "x" * 600, [], {}, [[[[]]]], "\x00", "ä\u202e", {"a": {"b": [1]}},
]  # fmt: skip


def odd_request(rng: random.Random) -> bytes:
    """Return a request of the protocol with one thing wrong, missing, unknown or too much, or none."""
    request = {"id": rng.choice([None, 1, "x", "y" * 100]), **rng.choice(VALID)}
    name = rng.choice(list(request))
    match rng.randrange(5):
        case 0:
            request[name] = rng.choice(VALUES)
        case 1:
            del request[name]
        case 2:
            request["colour"] = rng.choice(VALUES)
        case 3:
            request[name] = "z" * rng.choice([100, 7_000, 9_000, 40_000])
    return json.dumps(request).encode()


def test_ten_thousand_requests(daemon: DaemonProcess) -> None:
    rng = random.Random(2)
    before_mb = memory_mb(daemon)
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.setsockopt(zmq.LINGER, 0)
        client.connect(daemon.control)
        good = json.dumps({"id": 1, "cmd": "status"}).encode()
        makers: list[Callable[[], list[bytes]]] = [
            lambda: [good],
            lambda: [b"", good],
            lambda: [broken(good, rng)],
            lambda: [rng.randbytes(rng.randrange(300))],
            lambda: [json.dumps({"id": rng.choice([None, 1, "x", [], {}]), "cmd": "x" * rng.randrange(3000)}).encode()],
            lambda: [json.dumps({"id": 1, "cmd": "capture", "camera": "no", "n": 1}).encode()],
            lambda: [json.dumps({"id": 1, "cmd": "capture", "camera": "top", "n": rng.randrange(-5, 3)}).encode()],
            lambda: [b"[" * 5000],
            lambda: [b'{"id": 1, "cmd": "audit", "after": ' * 100],
            *[lambda: [odd_request(rng)]] * 8,
            *[lambda: [broken(odd_request(rng), rng)]] * 4,
            lambda: [good] * rng.randrange(2, 30),
        ]
        answered = 0
        for _ in range(10_000):
            client.send_multipart(rng.choice(makers)())
            assert client.poll(10_000), "no reply"
            reply = client.recv_multipart()
            body = reply[1] if reply[0] == b"" else reply[0]
            decoded = json.loads(body)
            assert set(decoded) <= set(ControlReply.__struct_fields__)
            assert decoded["ok"] or len(decoded["error"]["message"]) <= 500
            answered += 1
        assert answered == 10_000
        assert not client.poll(500), "more than one reply"
    judges_on(daemon)
    assert {(v["threshold"], v["reason"]) for v in daemon.verdicts[-20:]} == {(1e6, None)}
    assert daemon.states[-1]["overrides"] == {}
    assert memory_mb(daemon) - before_mb < 100


def test_floods_of_subscriptions_parts_and_connections(daemon: DaemonProcess) -> None:
    """Over a real address these would come from other machines; a library's client is as rude on a local one."""
    rng = random.Random(3)
    before_mb = memory_mb(daemon)
    with zmq.Context() as context, context.socket(zmq.XSUB) as vandal, context.socket(zmq.DEALER) as sender:
        for one, endpoint in ((vandal, daemon.endpoint), (sender, daemon.control)):
            one.setsockopt(zmq.LINGER, 0)
            one.setsockopt(zmq.SNDHWM, 0)
            one.connect(endpoint)
        for i in range(15_000):
            vandal.send(b"\x01" + f"nothing/{i}/".encode() + rng.randbytes(30))
        with context.socket(zmq.XSUB) as large:
            large.setsockopt(zmq.LINGER, 0)
            large.connect(daemon.endpoint)
            for i in range(500):
                large.send(b"\x01" + str(i).encode() + b"x" * 3000)
        sender.send_multipart([b"x" * 6_000] * 2_000)
        sender.send_multipart([b"x" * 60_000] * 200)
        judges_on(daemon)
    path = daemon.control.removeprefix("ipc://")
    idle = []
    for _ in range(300):
        with suppress(OSError):
            one = socket.socket(socket.AF_UNIX)
            idle.append(one)
            one.settimeout(1)
            one.connect(path)
    judges_on(daemon)
    for one in idle:
        one.close()
    assert memory_mb(daemon) - before_mb < 400
