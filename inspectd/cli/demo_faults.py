"""`inspectd demo --faults`: the same line with a camera that misbehaves, and what is said of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from inspectd.client import Message
    from inspectd.sim.faults import Episode, Script, Trouble

PARTS_PER_S = 10.0
FOLLOW_S = 0.5
"""So long after an episode ends, what is said may still be about it."""


@dataclass(slots=True)
class _Told:
    """What was said of one kind of trouble."""

    episodes: set[int] = field(default_factory=set)
    said: Counter[str] = field(default_factory=Counter)
    """Reasons of faults, and states."""
    passed: int = 0
    """Pictures that were taken in the middle of it, and called ok."""


def inspect(console: Console, folder: Path, model: Path, seed: int, duration_s: float) -> None:
    """Run the daemon on a camera that misbehaves on a script, and say what it said of each kind of trouble."""
    from inspectd.cli.demo import write_config
    from inspectd.sim.faults import EVERY_S, LONGEST_S, Script, Trouble

    source = f"sim://line?seed={seed}&fps={PARTS_PER_S:g}&faults={seed}"
    settings = "deadline_ms: 1500, read_timeout_ms: 500, frozen_ms: 500, open_timeout_ms: 5000"
    config, endpoint = write_config(folder, f'source: "{source}", model: {model}, {settings}')
    script = Script(seed, tuple(Trouble), EVERY_S, LONGEST_S)
    console.print(
        f"\n[b]2. Inspecting[/b] good parts for {duration_s:g} s while something goes wrong every {EVERY_S:g} s: "
        "inspectd run --config …"
    )
    command = [sys.executable, "-m", "inspectd", "run", "--config", str(config)]
    told: dict[Trouble, _Told] = {}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        try:
            for message, episode in _listen(endpoint, script, daemon, duration_s):
                _note(console, told, message, episode)
        finally:
            daemon.send_signal(signal.SIGTERM)
        _, log = daemon.communicate()
    if daemon.returncode:
        print(log, file=sys.stderr, end="")
        sys.exit(daemon.returncode)
    _report(console, told)


def _listen(
    endpoint: str, script: Script[Trouble], daemon: subprocess.Popen[str], duration_s: float
) -> Iterator[tuple[Message, Episode[Trouble] | None]]:
    """Yield each message beside what was wrong when its picture was taken, or a moment ago."""
    from inspectd.client import Subscription

    end_s: float | None = None
    with Subscription(endpoint, "verdict/line/", "state/line/") as subscription:
        while daemon.poll() is None and (end_s is None or time.monotonic() < end_s):
            message = subscription.receive(0.5)
            if message is None:
                continue
            verdict = message.verdict
            if verdict is not None and end_s is None:
                end_s = time.monotonic() + duration_s
            if end_s is None:
                continue
            captured_ns = verdict.t.captured if verdict is not None else None
            if captured_ns is not None:
                yield message, script.now(captured_ns)
            else:
                now_ns = time.monotonic_ns()
                yield message, next(script.between(now_ns - int(FOLLOW_S * 1e9), now_ns + 1), None)


def _note(console: Console, told: dict[Trouble, _Told], message: Message, episode: Episode[Trouble] | None) -> None:
    """Count what a message says, and print what is new in it."""
    one = told.setdefault(episode.trouble, _Told()) if episode is not None else _Told()
    if episode is not None and episode.start_ns not in one.episodes:
        one.episodes.add(episode.start_ns)
        console.print(f"[b]-- {episode.trouble}[/b] for {(episode.end_ns - episode.start_ns) / 1e9:.1f} s")
    if (state := message.state) is not None and state.state in ("lost", "frozen"):
        what, detail = f"state {state.state}", state.detail
    elif (verdict := message.verdict) is not None and verdict.verdict == "fault":
        what, detail = f"fault {verdict.reason}", verdict.detail
    else:
        one.passed += message.verdict is not None and message.verdict.verdict == "ok"
        return
    if episode is not None and not one.said[what]:
        console.print(f"   {what}: {detail}", soft_wrap=True)
    one.said[what] += 1


def _report(console: Console, told: dict[Trouble, _Told]) -> None:
    from rich.table import Table

    table = Table(title="What was said of it", title_justify="left")
    for title in ("trouble", "times", "said", "ok meanwhile"):
        table.add_column(title, justify="right" if title in ("times", "ok meanwhile") else "left")
    for trouble, one in sorted(told.items()):
        said = ", ".join(what for what, _ in one.said.most_common()) or "nothing: it was over too soon"
        table.add_row(str(trouble), str(len(one.episodes)), said, str(one.passed))
    console.print()
    console.print("[b]3. Result[/b]: a part is only ok if it was really seen.")
    console.print(table)
