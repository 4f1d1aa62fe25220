"""Taking pictures of good parts: from a source of our own, or from the daemon that holds the camera.

A live capture is checked while it runs, and what was taken is kept beside the run until the run is there, so
that it can be resumed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibrate.acquire.capture import SLOTS, Capture, Unreadable
from calibrate.acquire.capture_session import CaptureSession
from calibrate.acquire.checks import CaptureChecks
from calibrate.acquire.from_daemon import FramesFromDaemon, find_holder
from calibrate.acquire.parts import Passed
from calibrate.acquire.thinning import MOST, Thinning
from calibrate.data.sizing import Size, typical_size
from calibrate.data.training_set import Pictures, check_enough
from calibrate.progress import Watcher
from calibrate.where import Passing
from inspectd.cameras.discovery import identities
from inspectd.cameras.image_files import shown, survey
from inspectd.cameras.protocol import CaptureSettings
from inspectd.cameras.settings import capture_settings
from inspectd.cameras.sources import Kind, Source, parse_source, public_address
from inspectd.config import CameraConfig
from inspectd.errors import StartError, UsageError
from inspectd.model.calibration import CameraRecord
from inspectd.model.presence import Presence
from inspectd.records import Frame

CAPTURE = ".capture"
LIVE_PARTS = 200
LIVE_INTERVAL_S = 0.5
STRETCHED = 1.5
"""By so much the widest picture's shape may differ from the narrowest one's before it is said."""
STILL_S = 60.0
"""How long the scene may stand still before a live capture gives up (what was taken is kept)."""


@dataclass(frozen=True, slots=True)
class Acquisition:
    """What is taken, from where, and how."""

    source: Source
    settings: CaptureSettings
    control: str
    """Where a daemon that holds the camera would answer."""
    parts: int | None = None
    interval_s: float | None = None
    resumes: bool = False
    passed: Passed | None = None
    """Where parts are taken, not pictures: what is known of them."""

    @property
    def wanted(self) -> int | None:
        """How many pictures; None: all that a finite source has."""
        return self.parts or (None if self.source.is_finite else LIVE_PARTS)

    @property
    def pause_s(self) -> float:
        """Seconds between two pictures."""
        if self.interval_s is not None:
            return self.interval_s
        return 0.0 if self.source.is_lossless or self.passed is not None else LIVE_INTERVAL_S

    @property
    def public(self) -> str:
        """The source as it may be printed and written down: without secrets, odd bytes as escapes."""
        return shown(public_address(self.source.address))

    @property
    def is_live(self) -> bool:
        """Whether what is not taken now is gone: only then is it checked for repeats and kept for a resume."""
        return not self.source.is_lossless

    def record(self, size: tuple[int, int], settings: dict[str, float]) -> CameraRecord:
        """Return what the model will know of its camera."""
        identity = next(iter(identities(self.source)), None)
        return CameraRecord(self.public, identity, *size, self.settings.format, settings)


@dataclass(slots=True)
class Acquired:
    """What came of it besides the pictures."""

    left_out: list[str] = field(default_factory=list)
    """A sentence for each picture that cannot be read."""
    notes: list[str] = field(default_factory=list)
    """What the checks have to say about the whole capture, and what was passed over."""
    settings: dict[str, float] = field(default_factory=dict)
    """Of the camera, as it was read back."""
    presence: Presence | None = None
    """What a part is, where parts were taken that pass."""
    sheet: NDArray[np.uint8] | None = None
    """How they were told apart, drawn."""
    copies: list[str] = field(default_factory=list)
    """Pictures of a file or folder that are bit for bit others: not taken twice."""


def plan_acquisition(
    camera: CameraConfig,
    control: str,
    parts: int | None,
    interval_s: float | None,
    *,
    resumes: bool,
    passing: Passing | None = None,
) -> Acquisition:
    """Return what to take from a camera; UsageError when that cannot be."""
    source = parse_source(camera.source)
    if resumes and source.is_lossless:
        raise UsageError(f"--resume is for live cameras; {public_address(source.address)} can simply be read again.")
    if passing is not None and source.kind is Kind.FOLDER:
        raise UsageError(
            f"{public_address(source.address)} is a folder; parts that pass are looked for in the pictures of a camera "
            "or a video, which follow each other."
        )
    # Nobody triggers it here: a camera that takes a picture when it is told is told again and again.
    settings = msgspec.structs.replace(capture_settings(camera, source, SLOTS), is_commanded=False)
    if (
        passing is not None
        and passing.empty is not None
        and not (passing.empty.exists() and survey(passing.empty).pictures)
    ):
        raise UsageError(f"--empty {passing.empty} holds no pictures; expected pictures of the empty place.")
    passed = Passed(passing.looks, passing.window, passing.empty) if passing is not None else None
    return Acquisition(source, settings, control, parts, interval_s, resumes, passed)


def expected_size(acquisition: Acquisition) -> Size | None:
    """Return the typical width and height of a folder's pictures; None of other sources: their first picture tells."""
    if acquisition.source.kind is not Kind.FOLDER:
        return None
    return typical_size(survey(Path(acquisition.source.address)).pictures[: acquisition.wanted])


def acquire_pictures(acquisition: Acquisition, pictures: Pictures, folder: Path, watcher: Watcher) -> Acquired:
    """Fill `pictures`; UsageError or StartError when there are too few, or the source is gone.

    `folder`: where the pictures of a live capture are kept; `forget_pictures` removes them.
    """
    acquired = Acquired()
    if acquisition.source.kind is Kind.FOLDER:
        listing = survey(Path(acquisition.source.address))
        acquired.notes += listing.notes
    if not acquisition.source.is_file:
        watcher.stage("pictures", acquisition.wanted)
    checks = CaptureChecks(pictures.white_level)
    passed = acquisition.passed
    is_thinned = acquisition.source.kind is Kind.VIDEO and acquisition.parts is None and passed is None
    thinning = Thinning(pictures, MOST if is_thinned else math.inf)
    with ExitStack() as stack:
        session = stack.enter_context(_session(acquisition, folder)) if acquisition.is_live else None
        for picture, name in session.pictures() if session is not None else ():
            checks.look(picture, name)
            pictures.add(picture, name)
            watcher.step()
        if acquisition.wanted is None or len(pictures.taken) < acquisition.wanted:
            source = _frames(acquisition, watcher)
            frames = stack.enter_context(source)
            try:
                if passed is not None:
                    frames = _parts(acquisition, passed, frames, session, pictures.white_level, stack, watcher)
                _fill(acquisition, frames, pictures, checks, session, acquired, thinning, watcher)
                opened = source.opened if isinstance(source, Capture) else None
                acquired.settings = opened.settings if opened is not None else {}
            except KeyboardInterrupt:
                if session is not None and pictures.taken:
                    name = folder.name.removeprefix(".").removesuffix(CAPTURE)
                    watcher.report(
                        f"The {len(pictures.taken)} pictures taken so far are kept; go on with --resume --run_name "
                        f"{name}, or remove {folder}."
                    )
                raise
    check_enough(len(pictures.taken), acquired.left_out, acquisition.public, len(acquired.copies))
    if passed is not None:
        acquired.presence, acquired.sheet = passed.presence, passed.sheet
        acquired.notes += passed.notes()
    acquired.notes += [*checks.summary(), *thinning.notes(), *shape_notes(pictures), *area_notes(pictures)]
    if checks.scenes == 1 and not acquisition.is_live and passed is None:
        acquired.notes.append(_one_scene(acquisition, len(pictures.taken)))
    if acquired.copies:
        more = f" and {len(acquired.copies) - 3} more" if len(acquired.copies) > 3 else ""
        acquired.notes.append(
            f"{len(acquired.copies)} pictures are exact copies of others and were left out: "
            f"{', '.join(acquired.copies[:3])}{more}."
        )
    return acquired


def _fill(
    acquisition: Acquisition,
    frames: Iterator[Frame | Unreadable],
    pictures: Pictures,
    checks: CaptureChecks,
    session: CaptureSession | None,
    acquired: Acquired,
    thinning: Thinning,
    watcher: Watcher,
) -> None:
    next_s, moved_s, is_told = 0.0, time.monotonic(), False
    for item in frames:
        if isinstance(item, Unreadable):
            if not acquisition.is_live:
                acquired.left_out.append(f"{item.name}: {item.why}")
            elif time.monotonic() - moved_s > STILL_S:  # else the next picture is on its way
                raise StartError(_only_damaged(len(pictures.taken), item.why))
            continue
        try:
            now_s = time.monotonic()
            if now_s < next_s:
                continue
            name = item.stamp.part or f"frame {len(pictures.taken) + 1}"
            if (original := pictures.copy_of(item.picture)) is not None and not acquisition.is_live:
                acquired.copies.append(f"{name} (as {original})")
                continue
            look = checks.look(item.picture, name)
            _report_warnings(look.warnings if acquisition.is_live else (), watcher)
            if look.is_repeat and acquisition.is_live:
                if now_s - moved_s > STILL_S:
                    raise StartError(_stands_still(len(pictures.taken)))
                if not is_told and now_s - moved_s > STILL_S / 10:
                    is_told = True
                    watcher.report("The scene stands still: the same picture is not taken twice. Bring the next part.")
                continue
            next_s, moved_s, is_told = now_s + acquisition.pause_s, now_s, False
            pictures.fit_to(item.picture)  # before it is kept: a size that cannot be leaves nothing behind
            if session is not None:
                name = session.add(item.picture)
            pictures.add(item.picture, name)
            thinning.after_adding()
            watcher.step()
        finally:
            item.release()
        if len(pictures.taken) == acquisition.wanted:
            return


def _parts(
    acquisition: Acquisition,
    passed: Passed,
    frames: Iterator[Frame | Unreadable],
    session: CaptureSession | None,
    white_level: int,
    stack: ExitStack,
    watcher: Watcher,
) -> Iterator[Frame | Unreadable]:
    """Watch what a part is, and return an iterator over parts."""
    if session is None or not acquisition.resumes or not passed.recall(session):
        watcher.report("Watching what a part is: let good parts pass, with some empty place between them.")
        watcher.stage("watching", None)
        passed.watch(frames, white_level, watcher, is_live=acquisition.is_live)
        if session is not None:
            passed.keep(session)
        if not acquisition.is_live:  # from the beginning, once more
            frames = stack.enter_context(_frames(acquisition, watcher))
        watcher.stage("parts", acquisition.wanted)
    return passed.each(frames, white_level, is_live=acquisition.is_live)


def _report_warnings(warnings: Sequence[str], watcher: Watcher) -> None:
    for warning in warnings:
        watcher.report(warning)


def forget_pictures(folder: Path) -> None:
    """Remove the pictures that a live capture has kept; the run is there now."""
    CaptureSession.remove(folder)


def _session(acquisition: Acquisition, folder: Path) -> CaptureSession:
    settings = acquisition.settings
    size = None if settings.size is None else list(settings.size)
    facts: dict[str, object] = {"source": acquisition.public, "size": size, "format": settings.format}
    if acquisition.passed is not None:
        facts["mode"] = "part"
    return CaptureSession.resume(folder, facts) if acquisition.resumes else CaptureSession.begin(folder, facts)


def _frames(acquisition: Acquisition, watcher: Watcher) -> AbstractContextManager[Iterator[Frame | Unreadable]]:
    """Open the source, or borrow its frames from the daemon that holds it."""
    holder = find_holder(acquisition.control, acquisition.source.address) if acquisition.is_live else None
    if holder is None:

        def begin_bar(total: int) -> None:
            _begin_bar(acquisition, total, watcher)

        return Capture(acquisition.source, acquisition.settings, watcher.report, begin_bar)
    if acquisition.passed is not None:
        raise StartError(
            f"The daemon at {acquisition.control} holds this camera ({holder}). What a part is, is learned from all of "
            "its pictures: stop the daemon, or its camera (enabled: false), and start again."
        )
    watcher.report(
        f"The daemon at {acquisition.control} holds this camera ({holder}): its frames are taken from there."
    )
    return FramesFromDaemon(acquisition.control, holder)


def _only_damaged(count: int, why: str) -> str:
    return (
        f"For {STILL_S:.0f} s after {count} pictures only damaged ones have come: {why}. Mend the connection; the "
        "pictures are kept, go on with --resume."
    )


def _one_scene(acquisition: Acquisition, count: int) -> str:
    """Say that all pictures show the same scene; UsageError for a video, whose frames then are one part."""
    said = f"The {count} pictures of {acquisition.public} show one still scene"
    if acquisition.source.kind is Kind.VIDEO:
        raise UsageError(
            f"{said}; many pictures of one part teach nothing about the others. Take a video in which good parts pass."
        )
    return f"{said}: if they are of one part, they teach nothing about the others, whatever is said to be proven."


def shape_notes(pictures: Pictures) -> list[str]:
    """Say when pictures are of shapes so different that the network sees the same part stretched and squeezed."""
    shapes = sorted((width / height, f"{width}x{height}") for height, width, *_ in pictures.sizes)
    (narrow, first), (wide, last) = shapes[0], shapes[-1]
    if pictures.geometry.roi is not None or wide < STRETCHED * narrow:
        return []
    width, height = pictures.geometry.width, pictures.geometry.height
    return [
        f"The pictures are of {len(shapes)} sizes and of shapes from {first} to {last}; the network sees each of them "
        f"stretched to {width}x{height}. Cut them alike, or calibrate parts of different shapes by themselves."
    ]


def area_notes(pictures: Pictures) -> list[str]:
    """Say what several areas of a picture mean for what is said of parts."""
    if not pictures.rois:
        return []
    count = len(pictures.rois)
    return [
        f"Each of the {count} areas of a picture counts as a part here: a good part is rejected as soon as one of its "
        f"{count} areas is, up to {count} times as often as is said of one."
    ]


def _begin_bar(acquisition: Acquisition, total: int, watcher: Watcher) -> None:
    if acquisition.source.is_file:
        watcher.stage("pictures", min(acquisition.wanted or total, total))


def _stands_still(count: int) -> str:
    return (
        f"The scene has not changed for {STILL_S:.0f} s after {count} pictures; many pictures of one still part teach "
        "nothing about the others. Bring good parts past the camera; the pictures are kept, go on with --resume."
    )


def capture_folder(run: Path) -> Path:
    """Return where the pictures of a live capture for a run are kept."""
    return run.with_name(f".{run.name}{CAPTURE}")


def check_names(names: Sequence[str], pictures: Pictures) -> None:
    """Refuse to confirm a picture that is not there (UsageError)."""
    unknown = [name for name in names if name not in {*pictures.names, *pictures.taken}]
    if unknown:
        raise UsageError(f"--confirm names {unknown[0]!r}, which is none of the {len(pictures)} pictures.")
