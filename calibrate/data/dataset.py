"""Pictures in the MVTec layout: `<class>/train/good`, `<class>/test/<kind>`, `<class>/ground_truth/<kind>`.

Everything that can be known without decoding is checked before anything is trained: that the class exists,
that each defect has a mask of its picture's size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from calibrate.data.training_set import Pictures
from inspectd.cameras.image_files import is_tools_folder, read_mask, read_picture, shown, survey
from inspectd.cameras.sources import PICTURE_SUFFIXES
from inspectd.errors import UsageError
from inspectd.model.geometry import Geometry
from inspectd.records import Picture
from inspectd.simplenet.preprocess import crop

GOOD = "good"
GOOD_NAMES = (GOOD, "ok")
"""What data sets call the folder of good parts (BTAD says ok)."""
EXIF_ORIENTATION = 274
READ_AHEAD = 2
"""Pictures that wait decoded, for each thread."""


@dataclass(frozen=True, slots=True)
class TestPicture:
    """One picture of a test set and what is true of it."""

    path: Path
    kind: str
    """`good`, or the kind of its defect: the name of its folder."""
    stem: str
    """Its name below the folder of its kind, without the suffix."""
    mask: Path | None
    """Where its defect is drawn; None: it is good."""

    __test__ = False  # not a test, whatever pytest thinks of its name

    @property
    def is_defective(self) -> bool:
        """Whether anything is wrong with the part."""
        return self.kind != GOOD

    @property
    def name(self) -> str:
        """Kind and file, as people call it."""
        return f"{self.kind}/{self.stem}{self.path.suffix}"


@dataclass(frozen=True, slots=True)
class ClassFolder:
    """One class of a dataset on disk."""

    name: str
    train: tuple[Path, ...]
    test: tuple[TestPicture, ...]
    notes: tuple[str, ...] = ()
    """What was passed over in its folders."""

    def split(self, share: float) -> tuple[list[Path], list[Path]]:
        """Return the first `share` of the training pictures, to learn from, and the rest, held out."""
        cut = int(len(self.train) * share)
        return list(self.train[:cut]), list(self.train[cut:])


def find_class(folder: Path, name: str) -> ClassFolder:
    """Look one class up and check its test set; UsageError in one sentence."""
    root = folder / name
    if not name or "/" in name or not (root / "train").is_dir():
        raise UsageError(f"{folder} has no class {name!r}; {_existing(folder)}.")
    good = next((root / "train" / one for one in GOOD_NAMES if (root / "train" / one).is_dir()), root / "train" / GOOD)
    train = survey(good)
    if not train.pictures:
        raise UsageError(f"{good} holds no pictures; expected pictures of good parts.")
    notes = [*train.notes]
    test = tuple(_test_pictures(root, notes))
    return ClassFolder(name, train.pictures, test, tuple(notes))


def _existing(folder: Path) -> str:
    found = sorted(path.parent.name for path in folder.glob("*/train") if path.is_dir())
    if not found:
        return "nor any other; expected folders such as bottle/train/good below it"
    return f"there are: {', '.join(found)}"


def _test_pictures(root: Path, notes: list[str]) -> Iterator[TestPicture]:
    if not (root / "test").is_dir():
        raise UsageError(f"{root} has no folder test; expected test/good and test/<kind of defect>.")
    kinds = [path.name for path in (root / "test").iterdir() if path.is_dir() and not is_tools_folder(path.name)]
    for kind in sorted(kinds):
        found = survey(root / "test" / kind)
        notes += found.notes
        for path in found.pictures:
            stem = path.relative_to(root / "test" / kind).with_suffix("").as_posix()
            if kind in GOOD_NAMES:
                yield TestPicture(path, GOOD, stem, None)
            else:
                yield TestPicture(path, kind, stem, _find_mask(root / "ground_truth" / kind, stem, path))


def _find_mask(folder: Path, stem: str, picture: Path) -> Path:
    """Return the mask of a defect, <name>_mask or <name> with any picture's ending, of the picture's size."""
    wanted = [f"{Path(stem).name}_mask", Path(stem).name]
    beside = (folder / stem).parent
    there = {path.name.lower(): path for path in beside.iterdir()} if beside.is_dir() else {}
    names = [f"{name}{suffix}".lower() for name in wanted for suffix in (".png", *sorted(PICTURE_SUFFIXES))]
    found = next((there[name] for name in names if name in there), None)
    if found is None:
        raise UsageError(
            f"The defect {shown(picture)} has no mask; expected {shown(folder / f'{stem}_mask.png')} (or another "
            "picture's ending, with or without _mask)."
        )
    _check_sizes(picture, found)
    return found


def _check_sizes(picture: Path, mask: Path) -> None:
    """Refuse a mask of another size. Headers may lie (rotated pictures): what they differ in is decoded."""
    sizes = [_header_size(picture), _header_size(mask)]
    if sizes[0] == sizes[1]:
        return
    try:
        down, across = read_picture(picture).shape[:2]
        mask_down, mask_across = read_mask(mask).shape
    except UsageError:  # told when it is read
        return
    if (across, down) != (mask_across, mask_down):
        raise UsageError(
            f"The mask {shown(mask)} is {mask_across}x{mask_down}, but its picture {shown(picture)} is "
            f"{across}x{down}; expected the same size."
        )


def _header_size(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            return image.size if image.getexif().get(EXIF_ORIENTATION, 1) == 1 else None
    except Exception:  # noqa: BLE001 - whatever is wrong with it, decoding will tell
        return None


def read_truth(test: TestPicture, picture: Picture) -> NDArray[np.bool_]:
    """Return where the defect is, bool [H, W] of the picture; UsageError when the mask cannot be used."""
    height, width = picture.shape[:2]
    if test.mask is None:
        return np.zeros((height, width), np.bool_)
    mask = read_mask(test.mask)
    if mask.shape != (height, width):
        raise UsageError(
            f"The mask {test.mask} is {mask.shape[1]}x{mask.shape[0]}, but its picture {test.path} is "
            f"{width}x{height}; expected the same size."
        )
    return mask


def doubt(test: TestPicture, truth: NDArray[np.bool_]) -> str | None:
    """Return what is wrong with a defect's mask as a whole, or None. Such a mask can say nothing about pixels."""
    if test.mask is None or (truth.any() and not truth.all()):
        return None
    marks = "everything" if truth.any() else "nothing (opaque and not black is defect)"
    return f"The mask {shown(test.mask)} marks {marks}; its picture is left out of the figures for pixels."


def input_truth(truth: NDArray[np.bool_], geometry: Geometry) -> NDArray[np.bool_]:
    """Bring a truth mask [H, W] of a picture to the network's input, bool [height, width]: nearest pixel."""
    x, y, w, h = geometry.region(truth.shape[1], truth.shape[0])
    down, across = geometry.scaled_size(w, h)
    cut = np.ascontiguousarray(truth[y : y + h, x : x + w], np.uint8)
    scaled = cv2.resize(cut, (across, down), interpolation=cv2.INTER_NEAREST)
    return crop(torch.from_numpy(scaled)[None], geometry)[0].numpy() > 0


# Decoding


def read_all(paths: Sequence[Path], workers: int) -> Iterator[tuple[Path, Picture | str]]:
    """Yield each file in order with its picture, or the sentence that says why it cannot be read.

    `workers` threads decode ahead (cv2 lets them run side by side); 0: none, each is read when it is asked for.
    """
    if workers == 0:
        yield from zip(paths, map(_read, paths), strict=True)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        ahead: deque[tuple[Path, Future[Picture | str]]] = deque()
        for path in paths:
            ahead.append((path, pool.submit(_read, path)))
            if len(ahead) > READ_AHEAD * workers:
                first, picture = ahead.popleft()
                yield first, picture.result()
        for first, picture in ahead:
            yield first, picture.result()


def _read(path: Path) -> Picture | str:
    try:
        return read_picture(path)
    except UsageError as error:
        return str(error)


def add_files(pictures: Pictures, paths: Sequence[Path], workers: int, on_picture: Callable[[], None]) -> list[str]:
    """Decode files into `pictures`; return a sentence for each that is left out because it cannot be read."""
    left_out = []
    for path, picture in read_all(paths, workers):
        if isinstance(picture, str):
            left_out.append(picture)
        else:
            pictures.add(picture, shown(path.name))
        on_picture()
    return left_out
