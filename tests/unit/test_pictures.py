"""Pictures from files: what a folder holds and what is passed over, how one is decoded, what is said of the others."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_pictures
from numbered import jpegs
from PIL import Image

from inspectd.cameras.image_files import list_pictures, part_name, read_mask, read_picture, shown, survey
from inspectd.errors import UsageError

WHOLE = jpegs(1, size=(320, 240))[0]


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_pictures(folder)]


@pytest.mark.parametrize("tools", [".ipynb_checkpoints", "@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", ".Trash-0"])
def test_what_tools_leave_behind_is_no_part(tmp_path: Path, tools: str) -> None:
    write_pictures(tmp_path, 2)
    write_pictures(tmp_path / "lot" / tools, 1)
    assert names(tmp_path) == ["000.png", "001.png"]
    assert any(tools in note for note in survey(tmp_path).notes)


def test_links_are_followed_once_and_circles_end(tmp_path: Path) -> None:
    write_pictures(tmp_path / "_b", 2)
    (tmp_path / "lots").mkdir()
    (tmp_path / "lots" / "lot_b").symlink_to(tmp_path / "_b")
    assert names(tmp_path / "lots") == ["lot_b/000.png", "lot_b/001.png"]
    (tmp_path / "lots" / "again").symlink_to(tmp_path / "_b")
    (tmp_path / "lots" / "up").symlink_to(tmp_path / "lots")
    (tmp_path / "lots" / "nowhere.png").symlink_to(tmp_path / "absent.png")
    found = survey(tmp_path / "lots")
    assert len(found.pictures) == 2
    assert any("lead to a folder that was read already" in note for note in found.notes)
    assert any("nowhere.png" in note and "cannot be read" in note for note in found.notes)


def test_a_locked_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path, 1)
    write_pictures(tmp_path / "locked", 1)
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = survey(tmp_path)
    assert len(found.pictures) == 1
    assert "locked (Permission denied)" in found.notes[0]


def test_other_endings_are_counted(tmp_path: Path) -> None:
    write_pictures(tmp_path, 1)
    for i in range(30):
        (tmp_path / f"{i}.HEIC").write_bytes(b"x")
    (note,) = survey(tmp_path).notes
    assert "30 files with other endings (.heic) were passed over" in note


def test_names_that_are_not_utf8_are_read_and_shown_with_escapes(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/gut_\xfc"))
    write_pictures(tmp_path / "plain", 1)
    (tmp_path / "plain").rename(folder)  # OpenCV itself dies of such a name
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/Fl\xe4sche.png"))
    shutil.copy(folder / "000.png", odd)
    assert [read_picture(path).shape for path in list_pictures(folder)] == [(48, 64, 3)] * 2
    assert part_name(odd, folder) == "Fl\\udce4sche.png"
    shown(odd).encode()


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp", "png"])
def test_a_file_of_several_pictures_is_refused_and_one_of_a_single_is_read(tmp_path: Path, suffix: str) -> None:
    pages = [Image.fromarray(np.full((20, 30, 3), 60 * i, np.uint8)) for i in range(1, 4)]
    path = tmp_path / f"pages.{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(UsageError, match="holds 3 pictures"):
        read_picture(path)
    pages[0].save(path)
    if suffix != "gif" or cv2.haveImageWriter("a.gif"):  # OpenCV 4.11 knows no GIF, and says so
        assert read_picture(path).shape[:2] == (20, 30)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_colour_of_16_bits_is_read(tmp_path: Path, suffix: str) -> None:
    picture = np.random.default_rng(0).integers(0, 65535, (20, 30, 3), np.uint16)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), picture)
    assert np.array_equal(read_picture(tmp_path / f"a.{suffix}"), picture)


@pytest.mark.parametrize(
    "data", [b"", b"x" * 100, WHOLE[:-200], WHOLE[: len(WHOLE) // 2] + b"\xff\xd9", b"GIF89a", b"II*\0" + b"\xff" * 40]
)
def test_what_cannot_be_decoded_is_one_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="cannot be decoded"):
        read_picture(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "endless.png"):
        with pytest.raises(UsageError, match="no regular file"):
            read_picture(tmp_path / name)


def test_a_mask_is_what_is_opaque_and_not_black(tmp_path: Path) -> None:
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[0, :, :] = 255  # white and opaque: the defect
    mask[1, :, :3] = 255  # white, but nobody sees it
    mask[2, :, 3] = 255  # black and opaque
    cv2.imwrite(str(tmp_path / "a.png"), mask)
    assert read_mask(tmp_path / "a.png").tolist() == [[True] * 4, [False] * 4, [False] * 4, [False] * 4]
    cv2.imwrite(str(tmp_path / "b.png"), mask[:, :, 0])
    assert read_mask(tmp_path / "b.png").sum() == 8


@pytest.mark.realdata
def test_the_fields_pictures(shared: Path) -> None:
    """faults 5, 6, 12 and 17."""
    faults = shared / "faults"
    assert [read_picture(p).dtype for p in list_pictures(faults / "colour16")] == [np.uint16, np.uint16]
    with pytest.raises(UsageError, match="holds 2 pictures"):
        read_picture(faults / "multipage.tif")
    hidden = survey(faults / "hidden" / "ipynb_in" / "train")
    assert not any(".ipynb" in str(path) for path in hidden.pictures)
    assert ".ipynb_checkpoints" in hidden.notes[0]
    masks = list_pictures(faults / "mask_blackalpha" / "ground_truth")
    assert not any(read_mask(path).any() for path in masks), "black is no defect, opaque or not: it is told as empty"
