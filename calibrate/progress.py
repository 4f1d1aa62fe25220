"""Who is told how far a calibration is: a person with progress bars, a program by lines, or nobody."""

from __future__ import annotations

import _thread
import json
import os
import stat
import sys
import threading
import time
from contextlib import suppress
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

Curve = list[tuple[str, float, int]]
"""Name, value, step."""


class Watcher(Protocol):
    """Who is told how far a calibration is."""

    def stage(self, name: str, total: int | None) -> None:
        """A stage of `total` steps begins; None: nobody knows how many."""

    def step(self) -> None:
        """One step of the stage is done."""

    def report(self, text: str) -> None:
        """Something that a person should read."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """A point of a curve: `loss`, `p_true`, `p_fake` per step, `i-auroc`, `p-auroc` per meta epoch."""


class RunWatcher(Watcher, Protocol):
    """A watcher that is told from the beginning to the end, and keeps the curves."""

    def __enter__(self) -> Self:
        """It begins."""

    def __exit__(self, *_: object) -> None:
        """It ends."""

    def take_curve(self) -> Curve:
        """Return the curves of the model that was trained, and begin anew."""

    def finish(self, run: str, lines: list[str]) -> None:
        """The run is whole; `lines`: what a person should know of it."""


def watcher_of(how: str) -> RunWatcher:
    """Return who is told: `bars` for people, `lines` for programs."""
    return ProgressLines() if how == "lines" else ProgressBars()


class Unwatched:
    """A watcher that tells nobody."""

    def stage(self, name: str, total: int | None) -> None:
        """See `Watcher`."""

    def step(self) -> None:
        """See `Watcher`."""

    def report(self, text: str) -> None:
        """See `Watcher`."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """See `Watcher`."""


class ProgressBars:
    """A watcher for people: one bar for each stage; it keeps the curves that it was told."""

    def __init__(self) -> None:
        self._curve: Curve = []
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            refresh_per_second=2,  # a slow terminal shows every repaint
        )
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressBars:
        """Show the bars."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave them as they are."""
        self._progress.stop()

    def stage(self, name: str, total: int | None) -> None:
        """Begin a bar; `total` None: it is not known."""
        self._task = self._progress.add_task(name, total=total, note="")

    def step(self) -> None:
        """Move the current bar by one."""
        if self._task is not None:
            self._progress.advance(self._task)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Note a point of a curve; show the loss beside the bar."""
        self._curve.append((name, value, step))
        if self._task is not None and name == "loss":
            self._progress.update(self._task, note=f"loss {value:.3f}")

    def take_curve(self) -> Curve:
        """Return the curves of the model that was trained, and begin anew."""
        curve, self._curve = self._curve, []
        return curve

    def report(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, markup=False, highlight=False)

    def finish(self, run: str, lines: list[str]) -> None:
        """Print them where results belong; `run` is among them."""
        for line in lines:
            print(line)


class ProgressLines:
    """A watcher for programs: JSON objects on standard output, one a line.

    `{"stage": name, "total": n or null}`, `{"done": n, "loss": x}` (at most five a second), `{"report": text}`, and at
    the end `{"run": folder, "summary": [lines]}`.
    """

    EVERY_S = 0.2

    def __init__(self) -> None:
        self._curve: Curve = []
        self._done = 0
        self._total: int | None = None
        self._said_s = 0.0
        self._loss: float | None = None

    def __enter__(self) -> ProgressLines:
        """From now on the end of standard input, if it is a pipe, is a Ctrl-C: not every program may send signals."""
        with suppress(OSError, ValueError):
            mode = os.fstat(sys.stdin.fileno()).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                threading.Thread(target=_interrupt_at_the_end_of_input, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left."""

    def stage(self, name: str, total: int | None) -> None:
        """Say that a stage begins."""
        self._done, self._total = 0, total
        self._say({"stage": name, "total": total})

    def step(self) -> None:
        """Say how many are done, now and then, and at the end of the stage."""
        self._done += 1
        if self._done == self._total or time.monotonic() - self._said_s >= self.EVERY_S:
            self._said_s = time.monotonic()
            self._say({"done": self._done} | ({} if self._loss is None else {"loss": round(self._loss, 4)}))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Note a point of a curve."""
        self._curve.append((name, value, step))
        if name == "loss":
            self._loss = value

    def take_curve(self) -> Curve:
        """Return the curves of the model that was trained, and begin anew."""
        curve, self._curve, self._loss = self._curve, [], None
        return curve

    def report(self, text: str) -> None:
        """Say what a person should read."""
        self._say({"report": text})

    def finish(self, run: str, lines: list[str]) -> None:
        """Say where the run is, and what a person should know of it."""
        self._say({"run": run, "summary": lines})

    @staticmethod
    def _say(what: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(what, ensure_ascii=False) + "\n")
        sys.stdout.flush()


def _interrupt_at_the_end_of_input() -> None:
    with suppress(OSError):
        while os.read(0, 1024):
            pass
    _thread.interrupt_main()
