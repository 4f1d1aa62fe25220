"""A calibration that somebody began on the page: `inspectd calibrate` and `inspectd install` as on the command line.

They run as processes of their own. The daemon goes on meanwhile and lends its frames; what is on the page is what they
say. Lives in the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

LOG = logging.getLogger(__name__)

MOST_LINES = 200
LONGEST_LINE = 1 << 16
GRACE_S = 20.0
"""For a capture that is stopped: what was taken is kept, so that it can be resumed."""
PROJECT, GROUP = "page", "calibrations"


class Busy(Exception):  # noqa: N818 - what the page says
    """Another one runs; the message says which."""


class _Line(msgspec.Struct, frozen=True):
    """A line of `inspectd calibrate --progress lines`."""

    stage: str | None = None
    total: int | None = None
    done: int | None = None
    loss: float | None = None
    report: str | None = None
    run: str | None = None
    summary: list[str] = []


class Status(msgspec.Struct, omit_defaults=True):
    """How far it is."""

    camera: str
    by: str
    why: str
    began: str
    """RFC 3339, UTC."""
    run_name: str
    is_running: bool = True
    stage: str = ""
    done: int = 0
    total: int | None = None
    loss: float | None = None
    reports: list[str] = []
    """What a person should read, the oldest first."""
    run: str | None = None
    """The folder, when it is whole."""
    summary: list[str] = []
    trouble: str | None = None
    """Why it ended without a model."""
    can_resume: bool = False


@dataclass(slots=True)
class _Running:
    process: asyncio.subprocess.Process
    status: Status
    reports: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_LINES))


class Calibrations:
    """At most one calibration at a time: it takes what cores the daemon leaves."""

    def __init__(self, config: Path | None, results: Path | None, archive: Path | None, control: str) -> None:
        self._config, self._results, self._archive, self._control = config, results, archive, control
        self._running: _Running | None = None
        self._last: dict[str, Status] = {}
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        """What begins, and what changes models, comes one after the other."""

    @property
    def why_not(self) -> str | None:
        """Why nothing can be calibrated here; None: it can."""
        if self._config is None:
            return "Start inspectd hmi with --config: a camera is calibrated by its name there."
        return "Start inspectd hmi with --state: runs are kept there." if self._results is None else None

    def status(self, camera: str) -> Status | None:
        """Return how a camera's last calibration is; None: there was none, and no capture was left."""
        if self._running is not None and self._running.status.camera == camera:
            self._running.status.reports = list(self._running.reports)
            return self._running.status
        return self._last.get(camera) or self._left(camera)

    def report(self, camera: str) -> Path | None:
        """Return the report of a camera's last run; None: there is none."""
        status = self.status(camera)
        return None if status is None or status.run is None else Path(status.run) / "report.html"

    async def begin(self, camera: str, parts: int | None, by: str, why: str, *, resumes: bool) -> None:
        """Begin; Busy: one runs, or nothing can be calibrated."""
        if self.why_not is not None:
            raise Busy(self.why_not)
        async with self._lock:
            if self._running is not None:
                busy = self._running.status
                raise Busy(f"{busy.camera} is being calibrated by {busy.by}; wait for its end.")
            last = self.status(camera)
            if resumes and (last is None or not last.can_resume):
                raise Busy(f"There is no capture of {camera} to go on with.")
            name = last.run_name if resumes and last is not None else f"{camera}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
            process = await _started("calibrate", *self._arguments(camera, name, parts, resumes=resumes))
            began = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            self._running = _Running(process, Status(camera, by, why, began, name))
            LOG.info("%s is calibrated by %s: %s", camera, by, why)
            self._task = asyncio.create_task(self._watch(self._running))

    def stop(self, camera: str) -> None:
        """Stop it; what was captured is kept. Busy: none runs."""
        if self._running is None or self._running.status.camera != camera:
            raise Busy(f"{camera} is not being calibrated.")
        _stop(self._running.process)

    async def install(
        self, camera: str, run_name: str, model: Path, then: Callable[[], Awaitable[list[str]]], *, despite_marked: bool
    ) -> list[str]:
        """Put a run where the daemon looks for a camera's model, and do what follows; return what was said.

        Busy: another run is the last one by now, or it is not installed; `then` says for itself why not.
        """
        async with self._lock:
            status = self.status(camera)
            if status is None or status.run is None or status.run_name != run_name:
                raise Busy(f"{run_name} is not the last calibration of {camera} any more. Look at the newer one.")
            archive = self._archive if self._archive is not None and self._archive.is_dir() else None
            more = ["--archive", str(archive)] if archive is not None else []
            more += ["--despite-marked"] if despite_marked else []
            said = await _install(model, status.run, model.name, "--camera", camera, *more)
            return said + await then()

    async def roll_back(self, model: Path, then: Callable[[], Awaitable[list[str]]]) -> list[str]:
        """Return to the model that stood there before, and do what follows; as `install`."""
        async with self._lock:
            return await _install(model, "--rollback", model.name) + await then()

    async def close(self) -> None:
        """End what runs; what was captured is kept."""
        if self._running is not None and self._task is not None:
            process = self._running.process
            _stop(process)
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._task), GRACE_S)
            if process.returncode is None:
                with suppress(ProcessLookupError, PermissionError):  # systemd ends what is left
                    process.kill()

    def _arguments(self, camera: str, name: str, parts: int | None, *, resumes: bool) -> list[str]:
        found = ["--camera", camera, "--config", str(self._config), "--control", self._control]
        found += ["--results_path", str(self._results), "--log_project", PROJECT, "--log_group", GROUP]
        found += ["--run_name", name, "--progress", "lines"]
        found += ["--parts", str(parts)] if parts is not None else []
        found += ["--resume"] if resumes else []
        marked = None if self._archive is None else self._archive / camera
        return found + (["--with-marked", str(marked)] if marked is not None and (marked / "marked").is_dir() else [])

    async def _watch(self, running: _Running) -> None:
        process, status = running.process, running.status
        assert process.stdout is not None
        assert process.stderr is not None
        errors = asyncio.create_task(process.stderr.read())
        try:
            while line := await process.stdout.readline():
                with suppress(ValueError):  # a line that is none of ours
                    _note(running, msgspec.json.decode(line, type=_Line))
        except ValueError as error:  # longer than any of ours
            LOG.warning("what the calibration of %s says cannot be read: %s", status.camera, error)
            _stop(process)
        finally:
            code = await process.wait()
            said = await errors
            status.is_running = False
            status.reports = list(running.reports)
            if status.run is None:
                status.trouble = _sentence(said) if code else "It was stopped."
                status.can_resume = self._has_capture(status.run_name)
            self._last[status.camera] = status
            self._running = None
            LOG.info("calibration of %s: %s", status.camera, status.trouble or f"a model in {status.run}")

    def _left(self, camera: str) -> Status | None:
        """Return the capture that an earlier page's process left, the newest."""
        if self._results is None:
            return None
        left = sorted((self._results / PROJECT / GROUP).glob(f".{camera}-????????T??????Z.capture"))
        if not left:
            return None
        name = left[-1].name.removeprefix(".").removesuffix(".capture")
        return Status(camera, "", "", "", name, is_running=False, trouble="It was stopped.", can_resume=True)

    def _has_capture(self, run_name: str) -> bool:
        assert self._results is not None
        return (self._results / PROJECT / GROUP / f".{run_name}.capture").is_dir()


def _stop(process: asyncio.subprocess.Process) -> None:
    """Have a calibration end, as Ctrl-C does: its standard input ends. Under the shipped unit no signal may be sent."""
    if process.stdin is not None:
        process.stdin.close()


async def _install(model: Path, *arguments: str) -> list[str]:
    process = await _started("install", *arguments, "--models", str(model.parent))
    out, err = await process.communicate()  # its standard input ends, and it reads none
    if process.returncode:
        raise Busy(_sentence(err))
    return out.decode(errors="replace").splitlines()


async def _started(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "inspectd", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LONGEST_LINE,
        process_group=0,
    )


def _note(running: _Running, line: _Line) -> None:
    status = running.status
    if line.stage is not None:
        status.stage, status.done, status.total, status.loss = line.stage, 0, line.total, None
    if line.done is not None:
        status.done, status.loss = line.done, line.loss
    if line.report:
        running.reports.append(line.report)
    if line.run is not None:
        status.run, status.summary = line.run, line.summary


def _sentence(said: bytes) -> str:
    """Return the end of what a command says on stderr, where its sentence for people is."""
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    return " ".join(lines[-6:])[-1500:] or "It ended without a word."
