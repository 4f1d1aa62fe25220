"""Which decoded pictures show what the camera saw, and which are patched up.

FFmpeg conceals: what is lost is filled with the pixels of an earlier picture, which on a line is another part. Its
log is the only witness, so it is read, message by message, around every call. From the first sign of damage on, all
pictures are suspect until the next key frame that came and was decoded without one.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

import av.logging

_BENIGN = re.compile(
    r"deprecated pixel format|not enough frames to estimate|Could not find codec parameters|consider increasing"
    r"|[Nn]on.monoton|out of order|Timestamps are unset|Estimating duration|Starting second moov|multiple edit list"
    r"|max_analyze_duration|UDP (socket )?buffer size|attempted to set receive buffer|Method .* (not|un)|keepalive"
    r"|Increasing reorder buffer|SEI|is not implemented|VBV|does not support range"
)
"""Complaints of FFmpeg that say nothing about a picture's pixels."""
_TELLING = re.compile(r"concealing|Frame num gap")
"""What FFmpeg says quietly, although pixels are wrong."""
SEEN = 32
"""Pictures whose number of slices is remembered."""
USUAL = 0.8
"""The share of them that must agree before fewer slices count as lost ones."""
UNEVEN = 0.3
"""Share by which steps of a stream's clock may differ and still be even."""
REGULAR = 8
"""Equal steps of the stream's clock before a longer one counts as a missing picture."""


class Witness:
    """What FFmpeg complained of, in this thread."""

    def __init__(self) -> None:
        self.complaint: str | None = None
        """The first complaint that casts doubt on pictures, in FFmpeg's words; None: nothing was said."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear what is said in the block; `complaint` keeps what was said before."""
        with av.logging.Capture(local=True) as said:
            try:
                yield
            finally:
                for level, _, message in said:
                    self._hear(level, message.strip())

    def take(self) -> str | None:
        """Return the complaint and forget it."""
        complaint, self.complaint = self.complaint, None
        return complaint

    def _hear(self, level: int, message: str) -> None:
        if self.complaint is not None or not message:
            return
        if _TELLING.search(message) or (level <= av.logging.WARNING and not _BENIGN.search(message)):
            self.complaint = message[:200]


def listen_to_ffmpeg() -> None:
    """Let FFmpeg's log be heard, by `Witness` alone. Call once in a process."""
    av.logging.set_level(av.logging.DEBUG)
    av.logging.set_skip_repeated(False)


class Suspicion:
    """One stream's: from the first damage to the next clean key frame."""

    def __init__(self) -> None:
        self._why: str | None = "no key frame has come yet"
        self._clean_from: int | None = None
        self.has_begun = False
        """Whether there has been a clean key frame."""

    def look(self, time: int | None, is_key: bool, missing: str | None, complaint: str | None) -> None:
        """Note a packet that was decoded, in decoding order. `time`: its presentation time in the stream's units.

        `missing`: what is not there, before or in it. `complaint`: of its decoder, which is right to complain of
        pictures that are shown before a key frame and need older ones: those are suspect, what comes after is not.
        """
        is_leading = self._why is None and None not in (time, self._clean_from) and time < self._clean_from  # type: ignore[operator]
        damage = missing or (None if is_leading else complaint)
        if damage is not None:
            self._why = damage
        elif is_key and (self._why is not None or (time is not None and time < (self._clean_from or 0))):
            self._why, self._clean_from, self.has_begun = None, time, True

    def of(self, time: int | None) -> str | None:
        """Return why a decoded picture is suspect, or None. Pictures shown before a key frame may need older ones."""
        if self._why is not None:
            return self._why
        if self._clean_from is not None and time is not None and time < self._clean_from:
            return "it came before the key frame that ended the damage"
        return None


class SliceCount:
    """Notices that a picture has fewer slices than pictures of its stream have: H.265 decoders do not."""

    def __init__(self) -> None:
        self._counts: deque[int] = deque(maxlen=SEEN)

    def look(self, slices: int) -> str | None:
        """Return what is missing from a picture of so many slices, or None."""
        self._counts.append(slices)
        usual, times = Counter(self._counts).most_common(1)[0]
        if slices == 0:
            return "it has no slices"
        if slices < usual and times >= USUAL * (len(self._counts) - 1):
            return f"it has {slices} slices, and the pictures of this stream have {usual}"
        return None


class Steps:
    """Notices that a stream whose clock steps evenly leaves a picture out."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._step = self._gap = 0
        self._equal = 0

    def look(self, time: int | None) -> str | None:
        """Return what is missing before the packet of decoding time `time`, or None."""
        last, self._last = self._last, time
        if time is None or last is None:
            return None
        step = time - last
        if abs(step - self._step) <= UNEVEN * self._step:
            self._equal, self._gap = self._equal + 1, 0
            return None
        is_new_pace = self._gap > 0 and abs(step - self._gap) <= UNEVEN * self._gap
        is_gap = self._step > 0 and self._equal >= REGULAR and (step > 1.5 * self._step or step < 0)
        if not is_gap or is_new_pace:
            self._step, self._equal, self._gap = step, 0, 0
            return None
        self._gap = step
        return f"its clock jumps by {step / self._step:.1f} pictures"
