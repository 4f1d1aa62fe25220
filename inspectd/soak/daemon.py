"""The daemon that is soaked: its folder, its small disk, its configuration, its process."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import psutil

from inspectd.errors import StartError, UsageError
from inspectd.model import artefact
from inspectd.sim.faults import Script, Trouble
from inspectd.sim.line import Line
from inspectd.soak.truth import Shown

DISK_MB = 192
"""Of the disk for journal and archive, which is filled on purpose."""
JOURNAL_GB, ARCHIVE_GB = 0.04, 0.04
READY_S = 180.0
STOP_S = 20.0
LAST_WORDS = 2000
"""Characters."""
OPENS_S = 5.0
"""So long a camera may take to open, which is also what one does that hangs meanwhile."""
EXTRA = "extra"
"""The camera that comes and goes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the line looks like."""

    cameras: int
    fps: float
    width: int
    height: int
    seed: int
    defects: float
    ahead: int
    every_s: float
    """Something goes wrong at each camera so often …"""
    longest_s: float
    """… for at most so long."""

    @property
    def names(self) -> list[str]:
        """The cameras that are there from the beginning to the end."""
        return [f"camera{i}" for i in range(self.cameras)]

    def source(self, camera: str) -> str:
        """Return what a camera is: well known, and badly behaved."""
        seed = self._seed(camera)
        return (
            f"sim://line?seed={seed}&fps={self.fps:g}&width={self.width}&height={self.height}"
            f"&defects={self.defects:g}&ahead={self.ahead}&faults={seed}&every={self.every_s:g}&longest={self.longest_s:g}"
        )

    def shown(self, camera: str) -> Shown:
        """Return what is known of a camera's pictures."""
        line = Line(self._seed(camera), width=self.width, height=self.height, defects=self.defects)
        defects = [line.part(number).defect for number in range(self.ahead)]
        script = Script(self._seed(camera), tuple(Trouble), self.every_s, self.longest_s)
        return Shown(script, lambda number: defects[number % self.ahead])

    def _seed(self, camera: str) -> int:
        return self.seed + [*self.names, EXTRA].index(camera)


class Model(NamedTuple):
    """A calibrated model."""

    path: Path
    label: str
    """As it is published."""
    threshold: float

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what is needed of a model folder; UsageError: it cannot be used, or has no threshold."""
        found = artefact.read(path).artefact
        if found.calibration is None or found.calibration.threshold is None:
            raise UsageError(f"The model {path} has no threshold; expected one that inspectd calibrated.")
        return cls(path, found.label, found.calibration.threshold.value)


@dataclass(slots=True)
class Configured:
    """The cameras of the configuration, which is changed while the daemon runs."""

    models: Sequence[Model]
    settings: Settings
    thresholds: dict[str, float | None] = field(default_factory=dict)
    model_of: dict[str, int] = field(default_factory=dict)
    has_extra: bool = False
    """Whether there is one camera more."""
    is_broken: bool = False

    def camera(self, name: str) -> str:
        """Return one camera's section."""
        threshold = self.thresholds.get(name)
        key = "nmae" if self.is_broken else "name"
        return (
            f'  - {{{key}: {name}, source: "{self.settings.source(name)}", '
            f"model: {self.models[self.model_of.get(name, 0)].path}, "
            f"threshold: {'null' if threshold is None else repr(threshold)}, deadline_ms: 1000, frozen_ms: 500, "
            f"read_timeout_ms: 500, open_timeout_ms: {OPENS_S * 1000:g}}}"
        )


class Soaked:
    """A daemon in a process of its own, on a disk of its own where that may be had."""

    def __init__(self, folder: Path, configured: Configured, port: int) -> None:
        self.folder = folder
        self.configured = configured
        self.port = port
        self.disk = folder / "disk"
        self.disk.mkdir()
        self.config = folder / "inspectd.yaml"
        self.published, self.control = f"ipc://{folder}/verdicts", f"ipc://{folder}/control"
        self.log = folder / "log"
        self.write()
        command = [sys.executable, "-m", "inspectd", "run", "--config", str(self.config)]
        self.has_disk = _may_mount()
        """Whether it has a disk of its own, which can be filled."""
        if self.has_disk:
            mount = f'mount -t tmpfs -o size={DISK_MB}m none "$1" && shift && exec "$@"'
            command = [
                "unshare",
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                mount,
                "sh",
                str(self.disk),
                *command,
            ]
        self._give_up_s = time.monotonic() + READY_S
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def write(self) -> None:
        """Write the configuration as it is to be now."""
        cameras = [*self.configured.settings.names, *([EXTRA] if self.configured.has_extra else [])]
        sections = "\n".join(map(self.configured.camera, cameras))
        self.config.write_text(
            f'cameras:\n{sections}\npublish: {{bind: "{self.published}"}}\ncontrol: {{bind: "{self.control}"}}\n'
            f'metrics: {{listen: "127.0.0.1:{self.port}"}}\n'
            f"journal: {{path: {self.disk}/journal.db, max_gb: {JOURNAL_GB}}}\n"
            f"archive: {{path: {self.disk}/archive, max_gb: {ARCHIVE_GB}}}\n",
            encoding="utf-8",
        )

    def is_ready(self) -> bool:
        """Whether every camera judges; StartError: the daemon has ended, or takes too long."""
        if "ready:" in self.log.read_text(errors="replace"):
            return True
        if self.process.poll() is not None or time.monotonic() > self._give_up_s:
            raise StartError(f"The daemon did not come up: {self.last_words()}")
        return False

    def last_words(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace").strip()[-LAST_WORDS:] or "it said nothing"

    @property
    def seen_disk(self) -> Path:
        """The disk as it is seen from here."""
        return Path(f"/proc/{self.process.pid}/root{self.disk}") if self.has_disk else self.disk

    def children(self) -> list[psutil.Process]:
        """Return the processes that read cameras: each is a child of the one that forks them."""
        return [child for one in psutil.Process(self.process.pid).children() for child in one.children()]

    def stop(self, meanwhile: Callable[[], object]) -> float:
        """End the daemon as systemd does; return how long that took. StartError: it did not end.

        `meanwhile`: called again and again until then.
        """
        began_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        while self.process.poll() is None:
            meanwhile()
            if time.monotonic() > began_s + STOP_S:
                raise StartError(f"The daemon did not end within {STOP_S:g} s.")
        return time.monotonic() - began_s

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def _may_mount() -> bool:
    """Whether this user may have a small disk of their own, in a namespace."""
    if shutil.which("unshare") is None:
        return False
    tried = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]
    return subprocess.run(tried, check=False, capture_output=True).returncode == 0
