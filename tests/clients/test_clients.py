"""Subscribers in C and JavaScript, written from the protocol's document alone, on another host than the daemon.

The hosts are two network namespaces with a cable between them, so that nothing is a loopback; keys are needed. What
a machine lacks for that (root, iproute2, libczmq-dev, gcc, node, npm) is said where these tests are skipped.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import write_small_model
from hosts import Hosts, run, two_hosts

from inspectd.wire.keys import KeyPair, write_pair

HERE = Path(__file__).parent
LANGUAGES = ("c", "js")
ZEROMQ_JS = "zeromq@6.8.0"
PATIENCE_S = 60.0
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with two_hosts() as found:
        yield found


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str] | str]:
    """Return by language how its client is started, or why it cannot be."""
    folder = tmp_path_factory.mktemp("programs")
    return {"c": _build_c(folder), "js": _install_js(folder)}


def _build_c(folder: Path) -> list[str] | str:
    if shutil.which("gcc") is None or not Path("/usr/include/czmq.h").exists():
        return "the client in C needs gcc and libczmq-dev"
    built = run(
        "gcc", "-Wall", "-Wextra", "-Werror", "-o", str(folder / "listen"), str(HERE / "listen.c"), "-lczmq", "-lzmq"
    )
    assert built.returncode == 0, built.stderr
    return [str(folder / "listen")]


def _install_js(folder: Path) -> list[str] | str:
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "the client in JavaScript needs node and npm"
    shutil.copy(HERE / "listen.js", folder)
    # Node has a list of authorities of its own; a registry behind a company's is known to the system's.
    environment = {"NODE_EXTRA_CA_CERTS": "/etc/ssl/certs/ca-certificates.crt", **os.environ}
    line = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--fetch-retries=1", ZEROMQ_JS]
    try:
        installed = subprocess.run(line, capture_output=True, text=True, check=False, timeout=100, env=environment)
    except subprocess.TimeoutExpired:
        return f"npm does not get {ZEROMQ_JS} within 100 s"
    if installed.returncode:
        return f"npm cannot install {ZEROMQ_JS}: {installed.stderr.strip()[-300:]}"
    return ["node", str(folder / "listen.js")]


class Site:
    """A daemon with two cameras on one host, and who may watch and command it from the other."""

    def __init__(self, folder: Path, hosts: Hosts) -> None:
        self.folder = folder
        self.hosts = hosts
        for name in ("line3", "hmi", "plc7", "stranger"):
            write_pair(folder / "keys", name, KeyPair.new())
        for place, names in (("watch", ("hmi", "plc7")), ("command", ("plc7",))):
            (folder / place).mkdir()
            for name in names:
                shutil.copy(folder / "keys" / f"{name}.key", folder / place)
        port = 20_000 + next(_numbers) * 2
        self.published, self.control = (f"tcp://{hosts.address}:{port + i}" for i in range(2))
        model = write_small_model(folder / "model")
        source = "sim://line?fps=20&width=64&height=64"
        cameras = ", ".join(
            f'{{name: {name}, source: "{source}", model: {model}, deadline_ms: 5000}}' for name in ("top", "side")
        )
        (folder / "inspectd.yaml").write_text(
            f"cameras: [{cameras}]\n"
            f"publish: {{bind: '{self.published}', allow: {folder / 'watch'}}}\n"
            f"control: {{bind: '{self.control}', allow: {folder / 'command'}}}\n"
            f"security: {{curve_secret: {folder / 'keys' / 'line3.key_secret'}}}\n"
            f"metrics: {{listen: '127.0.0.1:0'}}\njournal: {{path: {folder / 'journal.db'}}}\narchive: {{max_gb: 0}}\n"
        )
        self._clients: list[subprocess.Popen[str]] = []
        command = [
            *self.hosts.daemon,
            sys.executable,
            "-m",
            "inspectd",
            "run",
            "--config",
            str(self.folder / "inspectd.yaml"),
        ]
        with (self.folder / "log").open("a") as log:
            self._daemon = subprocess.Popen(command, stderr=log)

    def close(self) -> None:
        """End all that was started."""
        for one in (*self._clients, self._daemon):
            one.kill()
            one.communicate()

    def client(self, program: list[str], name: str, count: int, drop: str = "-") -> subprocess.Popen[str]:
        keys = [str(self.folder / "keys" / "line3.key"), str(self.folder / "keys" / f"{name}.key_secret")]
        command = [*self.hosts.client, *program, self.published, self.control, str(count), drop, *keys]
        self._clients.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return self._clients[-1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, hosts: Hosts) -> Iterator[Site]:
    one = Site(tmp_path_factory.mktemp("site"), hosts)
    yield one
    one.close()


@pytest.fixture(params=LANGUAGES)
def program(request: pytest.FixtureRequest, programs: dict[str, list[str] | str]) -> list[str]:
    found = programs[request.param]
    if isinstance(found, str):
        pytest.skip(found)
    return found


def said(text: str) -> list[tuple[str, str, int, int, int]]:
    """Return what a client printed: what, camera, two numbers, and when, in milliseconds."""
    lines = [line.split() for line in text.splitlines()]
    return [(what, camera, int(a), int(b), int(at)) for what, camera, a, b, at in lines]


def heard(lines: list[Any], camera: str) -> list[int]:
    return [line[2] for line in lines if line[0] in {"verdict", "filled"} and line[1] == camera]


def test_verdicts_masks_and_states_and_a_gap_that_is_noticed_and_filled(site: Site, program: list[str]) -> None:
    client = site.client(program, "plc7", count=120, drop="4")
    out, err = client.communicate(timeout=PATIENCE_S)
    assert client.returncode == 0, err + (site.folder / "log").read_text()
    lines = said(out)
    for camera in ("top", "side"):
        seqs = heard(lines, camera)
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert len(seqs) >= 50
    filled = [line[2] for line in lines if line[0] == "filled"]
    assert len(filled) >= 8
    assert any(line[0] == "gap" for line in lines)
    assert not [line for line in lines if line[0] in {"missed", "refused"}]
    masks = [line for line in lines if line[0] == "mask"]
    assert len(masks) >= 50
    assert {(a, b) for _, _, a, b, _ in masks} == {(64, 64)}
    assert {line[1] for line in lines if line[0] == "state"} == {"top", "side"}
    assert {line[2] for line in lines if line[0] == "daemon"} == {1}


def test_a_key_that_is_not_on_the_list_is_refused_and_said(site: Site, program: list[str]) -> None:
    watching = site.client(program, "hmi", count=5)
    assert watching.communicate(timeout=PATIENCE_S)[0], "the daemon runs"
    client = site.client(program, "stranger", count=1000)
    out, err = client.communicate(timeout=PATIENCE_S)
    assert client.returncode == 3, err
    assert ("refused", "published") in [line[:2] for line in said(out)]
    assert not [line for line in said(out) if line[0] not in {"refused"}]


def test_who_may_watch_may_not_command(site: Site, program: list[str]) -> None:
    client = site.client(program, "hmi", count=60, drop="4")
    out, err = client.communicate(timeout=PATIENCE_S)
    assert client.returncode == 0, err
    lines = said(out)
    assert ("refused", "control") in [line[:2] for line in lines]
    assert [line for line in lines if line[0] == "gap"]
    assert not [line for line in lines if line[0] == "filled"]


def test_who_is_taken_off_the_list_hears_nothing_more_and_the_other_loses_nothing(
    site: Site, program: list[str]
) -> None:
    gone, stays = site.client(program, "hmi", count=10_000), site.client(program, "plc7", count=400)
    for client in (gone, stays):
        assert client.stdout is not None
        while not client.stdout.readline().startswith("verdict"):
            assert client.poll() is None
    time.sleep(2)
    key = site.folder / "watch" / "hmi.key"
    key.rename(site.folder / key.name)
    taken_ms = time.monotonic_ns() // 1_000_000
    out, _ = gone.communicate(timeout=PATIENCE_S)
    (site.folder / key.name).rename(key)  # for the other language's turn
    assert gone.returncode == 3
    late = [line for line in said(out) if line[0] == "verdict" and line[4] > taken_ms + 1000]
    assert not late
    out, err = stays.communicate(timeout=PATIENCE_S)
    assert stays.returncode == 0, err
    lines = said(out)
    assert max(line[4] for line in lines) > taken_ms + 2000, "it went on for a while"
    assert not [line for line in lines if line[0] == "missed"]
    for camera in ("top", "side"):
        seqs = heard(lines, camera)
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
