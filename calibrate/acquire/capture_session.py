"""The pictures of a live capture, kept beside the run until the run is there: a cancelled capture can be resumed.

One folder: `session.json` with what the capture asked for, `NNNNNN.png` for each picture, without loss. Every
file is written under another name and renamed, so that a kill costs at most the picture at hand.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import cv2

from inspectd.atomic import missing, remove_empty
from inspectd.cameras.image_files import read_picture
from inspectd.errors import StartError, UsageError
from inspectd.records import Picture

FORMAT = 1
FACTS = "session.json"
_PNG_SPEED = [cv2.IMWRITE_PNG_COMPRESSION, 1]


class CaptureSession:
    """Owns the folder while a capture runs; a second capture into the same folder is refused."""

    def __init__(self, folder: Path, made: list[Path] | None = None) -> None:
        """`made`: folders that were made for it, innermost first; they go away with it if it stays empty."""
        self._folder = folder
        self._made = made or [folder]
        self._lock = (folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StartError(f"Another capture writes to {folder}; wait for it or choose another --run_name.") from None

    @classmethod
    def begin(cls, folder: Path, facts: Mapping[str, object]) -> CaptureSession:
        """Begin a capture; UsageError when the folder holds the pictures of one that was stopped."""
        kept = len(_pictures(folder))
        if kept:
            raise UsageError(
                f"{folder} holds {kept} pictures of a capture that was stopped or has parts to confirm; go on with it "
                "with --resume, or remove the folder."
            )
        made = missing(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            session = cls(folder, made)
            _write(folder / FACTS, json.dumps({"format": FORMAT, **facts}).encode())
        except OSError as error:
            raise _cannot_keep(folder, 0, error) from None
        return session

    @classmethod
    def resume(cls, folder: Path, facts: Mapping[str, object]) -> CaptureSession:
        """Go on with a capture; UsageError when there is none, or it was asked for something else."""
        try:
            known = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise UsageError(
                f"There is no capture to resume in {folder}; start it without --resume, or check --run_name."
            ) from None
        for name, value in {"format": FORMAT, **facts}.items():
            if not isinstance(known, dict) or known.get(name) != value:
                was = known.get(name) if isinstance(known, dict) else None
                raise UsageError(
                    f"The capture in {folder} was begun with {name} {was!r}, and this one asks for {value!r}; expected "
                    "the same, or another --run_name."
                )
        return cls(folder)

    def __enter__(self) -> CaptureSession:
        """Hold the folder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the folder go; without any picture in it, it is of no use and goes away."""
        self._lock.close()
        if not _pictures(self._folder):
            shutil.rmtree(self._folder, ignore_errors=True)
            remove_empty([one for one in self._made if one != self._folder])

    def pictures(self) -> Iterator[tuple[Picture, str]]:
        """Yield what was taken, in order, with names; a damaged picture is dropped."""
        for path in _pictures(self._folder):
            try:
                picture = read_picture(path)
            except UsageError:
                path.unlink(missing_ok=True)
                continue
            yield picture, f"frame {int(path.stem)}"

    def add(self, picture: Picture) -> str:
        """Keep a picture and return its name; StartError when the disk refuses."""
        kept = _pictures(self._folder)
        number = int(kept[-1].stem) + 1 if kept else 1
        _, data = cv2.imencode(".png", picture, _PNG_SPEED)
        try:
            _write(self._folder / f"{number:06d}.png", data.tobytes())
        except OSError as error:
            raise _cannot_keep(self._folder, len(kept), error) from None
        return f"frame {number}"

    def keep(self, name: str, data: bytes) -> None:
        """Keep something besides pictures; StartError when the disk refuses."""
        try:
            _write(self._folder / name, data)
        except OSError as error:
            raise _cannot_keep(self._folder, len(_pictures(self._folder)), error) from None

    def kept(self, name: str) -> bytes | None:
        """Return what was kept under a name; None: nothing was."""
        path = self._folder / name
        return path.read_bytes() if path.exists() else None

    @staticmethod
    def remove(folder: Path) -> None:
        """Remove what was kept."""
        shutil.rmtree(folder, ignore_errors=True)


def _pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.png"))


def _write(path: Path, data: bytes) -> None:
    scratch = path.with_name(f".{path.name}.partial")
    try:
        scratch.write_bytes(data)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _cannot_keep(folder: Path, kept: int, error: OSError) -> StartError:
    return StartError(
        f"The pictures cannot be kept in {folder}: {error.strerror}. The {kept} that are there are not lost; free some "
        "space and go on with --resume."
    )
