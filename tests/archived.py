"""An archive, and a camera and a publisher that feed it."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np

from inspectd.history import pictures
from inspectd.history.archive import Archive, Terms
from inspectd.records import Challenge, Finding, Mask, Outcome, Picture, Stamp, Verdict
from inspectd.wire.messages import verdict_message
from inspectd.wire.requests import Say

DAY_NS = 86_400_000_000_000
MAP = np.arange(12, dtype=np.uint8).reshape(3, 4)
SCORED = {"score": 1.5, "threshold": 1.0, "model": "top 0123456789ab", "form": "cpu:openvino float32"}
NG = Finding(Outcome.NG, mask=Mask(MAP, (0, 0, 8, 6)), **SCORED)  # type: ignore[arg-type]
OK = Finding(Outcome.OK, **SCORED)  # type: ignore[arg-type]


class Line:
    """An archive, and a camera and a publisher that feed it."""

    def __init__(self, folder: Path, epoch: str = "e1", max_bytes: float = 1e9, ok_share: float = 0.0) -> None:
        self.folder = folder / "archive"
        self.epoch = epoch
        self.archive = Archive(self.folder, Terms(max_bytes, ok_share))
        self.archive.start()
        self.seq = 0
        self.headers: dict[int, bytes] = {}

    def judge(
        self,
        picture: Picture,
        finding: Finding = NG,
        part: str | None = None,
        day: int = 0,
        known: Challenge | None = None,
    ) -> Verdict:
        """Have a picture judged: offered and published, in either order."""
        self.seq += 1
        captured_ns = time.monotonic_ns() + day * DAY_NS
        stamp = Stamp("top", self.seq, captured_ns, part)
        verdict = Verdict("top", self.seq, finding, 0, stamp, challenge=known)
        if self.seq % 2:
            self.publish(verdict)
            self.offer(picture, verdict)
        else:
            self.offer(picture, verdict)
            self.publish(verdict)
        return verdict

    def offer(self, picture: Picture, verdict: Verdict) -> None:
        assert verdict.stamp is not None
        if self.archive.wants(verdict.stamp, verdict):
            self.archive.take(verdict.stamp, picture, verdict)

    def publish(self, verdict: Verdict) -> bytes:
        offset_ns = time.time_ns() - time.monotonic_ns()
        header = msgspec.json.encode(verdict_message(verdict, self.epoch, offset_ns, True, time.monotonic_ns()))
        self.headers[verdict.seq] = header
        self.archive.heard(verdict.camera, verdict.seq, header)
        return header

    def files(self) -> list[Path]:
        self.archive.flush()
        return sorted(self.folder.rglob("*.png"), key=lambda path: path.name)

    def mark(self, seq: int, say: Say) -> Path | None:
        name = pictures.name_of(self.headers[seq])
        assert name is not None
        return self.archive.mark("top", name, say)

    def stop(self) -> None:
        self.archive.stop()


def noise(seed: int = 0, shape: tuple[int, ...] = (48, 64, 3), kind: str = "uint8") -> Picture:
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max, shape).astype(kind)  # type: ignore[no-any-return]
