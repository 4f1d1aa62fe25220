"""Who is told how far a calibration is: a person with progress bars, or nobody."""

from __future__ import annotations

from typing import Protocol

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
