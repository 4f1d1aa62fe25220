"""Off the loopback, as a user sets it up: keys, a configuration, a daemon, and clients that may and may not.

`tcp://lo` is the loopback by the name of its interface, which nobody but the system knows to be one.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import write_small_model
from forked import ForkedInspectd
from run_here import run_here

from inspectd.client import Control, Keys, NotAllowedError, Subscription
from inspectd.wire.requests import AuditRequest, BypassRequest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Site:
    """A folder with a daemon's keys, those of two clients, and a configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("line3", "hmi", "plc7"):
            assert run_here("keygen", name, "--folder", str(folder / "keys")).returncode == 0
        for place, names in (("watch", ("hmi", "plc7")), ("command", ("plc7",))):
            (folder / place).mkdir()
            for name in names:
                shutil.copy(folder / "keys" / f"{name}.key", folder / place)
        self.published, self.control = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        self.config = folder / "inspectd.yaml"
        model = write_small_model(folder / "model", threshold=1e6)
        self.config.write_text(
            f"cameras: [{{name: top, source: 'sim://line?fps=10&width=64&height=64', model: {model}}}]\n"
            f"publish: {{bind: '{self.published.replace('127.0.0.1', 'lo')}', allow: {folder / 'watch'}}}\n"
            f"control: {{bind: '{self.control.replace('127.0.0.1', 'lo')}', allow: {folder / 'command'}}}\n"
            f"security: {{curve_secret: {folder / 'keys' / 'line3.key_secret'}}}\n"
            f"metrics: {{listen: '127.0.0.1:0'}}\njournal: {{path: {folder / 'journal.db'}}}\narchive: {{max_gb: 0}}\n"
        )

    def keys(self, name: str) -> Keys:
        return Keys.read(self.folder / "keys" / "line3.key", self.folder / "keys" / f"{name}.key_secret")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def daemon(site: Site) -> Iterator[ForkedInspectd]:
    process = ForkedInspectd(["run", "--config", str(site.config)], os.environ, site.folder / "log")
    yield process
    process.kill()
    process.wait()


@pytest.mark.usefixtures("daemon")
def test_a_watcher_watches_a_commander_commands_and_whoever_is_taken_off_hears_no_more(site: Site) -> None:
    with (
        Subscription(site.published, "verdict/", keys=site.keys("hmi")) as hmi,
        Subscription(site.published, "verdict/", keys=site.keys("plc7")) as plc,
        Control(site.control, keys=site.keys("plc7")) as command,
    ):
        assert hmi.receive(60) is not None
        first = plc.receive(10)
        assert first is not None
        assert command.status()["cameras"]["top"]["state"] == "running"
        command.ask(BypassRequest(camera="top", seconds=1, by="anna", why="who am I?"), 10)
        change = command.ask(AuditRequest(), 10)[0]["rows"][-1]["change"]
        assert (change["who"], change["by"]) == ("plc7", "anna"), "the key says who it is, the request what it claims"
        with Control(site.control, keys=site.keys("hmi")) as watcher, pytest.raises(NotAllowedError):
            watcher.status()

        (site.folder / "watch" / "hmi.key").unlink()
        give_up_s = time.monotonic() + 30
        with suppress(NotAllowedError):
            while hmi.receive(1.0) is not None:  # there are ten verdicts a second
                assert time.monotonic() < give_up_s
        while plc.receive(0):
            pass
        assert plc.receive(10) is not None


def test_check_says_all_that_is_wrong_with_keys_and_run_does_not_start(site: Site) -> None:
    good = run_here("check", "--config", str(site.config))
    assert good.returncode == 0, good.stderr
    (site.folder / "keys" / "line3.key_secret").chmod(0o644)
    (site.folder / "watch" / "hmi.key").write_text("hello")
    shutil.rmtree(site.folder / "command")
    found = run_here("check", "--config", str(site.config))
    assert found.returncode == 2
    assert "has 3 problems" in found.stderr
    for part in (
        r"security\.curve_secret: .*line3\.key_secret holds a secret and has mode 644",
        r"publish\.allow: .*hmi\.key holds no public key",
        r"control\.allow: .*command cannot be read as a folder of public keys: No such file or directory",
    ):
        assert re.search(part, found.stderr), found.stderr
    ended = run_here("run", "--config", str(site.config))
    assert ended.returncode == 2
    assert re.fullmatch(r"inspectd: .*line3\.key_secret holds a secret and has mode 644.*\n", ended.stderr), (
        ended.stderr
    )


def test_keygen_twice_changes_nothing(site: Site) -> None:
    before = {path: path.read_bytes() for path in (site.folder / "keys").iterdir()}
    again = run_here("keygen", "plc7", "--folder", str(site.folder / "keys"))
    assert again.returncode == 2
    assert "is there already; nothing was changed" in again.stderr
    assert {path: path.read_bytes() for path in (site.folder / "keys").iterdir()} == before
