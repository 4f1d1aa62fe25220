"""Parts of the daemon's archive that a person has marked: good ones to learn from, bad ones as known defects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calibrate.data.dataset import add_files
from calibrate.data.training_set import Pictures
from inspectd.cameras.image_files import list_pictures, shown
from inspectd.errors import UsageError
from inspectd.history.pictures import MARKED, MARKS


@dataclass(frozen=True, slots=True)
class Marked:
    """The pictures, by what was said of them."""

    good: tuple[Path, ...]
    bad: tuple[Path, ...]

    @property
    def good_names(self) -> tuple[str, ...]:
        """What the good ones are called in the training set: a person has said that they are good."""
        return tuple(shown(path.name) for path in self.good)


NOTHING = Marked((), ())


def find_marked(folder: Path) -> Marked:
    """Return the marked pictures of a camera's folder in an archive; UsageError when there are none."""
    marked = folder / MARKED
    good, bad = (tuple(list_pictures(marked / say)) if (marked / say).is_dir() else () for say in MARKS)
    if not good and not bad:
        raise UsageError(
            f"--with-marked {folder} has no marked pictures; expected a camera's folder in the archive, such as "
            "/var/lib/inspectd/archive/top, with pictures that `inspectd mark` has put into marked/good or marked/bad."
        )
    return Marked(good, bad)


def add_good(marked: Marked, pictures: Pictures, left_out: list[str], notes: list[str]) -> None:
    """Let the good ones be learned from; add a sentence for each that cannot be read, and what is to be said."""
    if not marked.good:
        return
    unreadable = add_files(pictures, marked.good, 0, lambda: None)
    left_out += unreadable
    count = len(marked.good) - len(unreadable)
    are = "picture is" if count == 1 else "pictures are"
    notes.append(f"{count} {are} learned from that people have marked as good.")


def confirmed(marked: Marked, pictures: Pictures) -> tuple[str, ...]:
    """Return the names of the good ones that are learned from: people have said what they are, however they look."""
    return tuple(name for name in marked.good_names if name in pictures.taken)
