"""How much memory a pass takes, and how much is free."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tall import held_a_pixel
from torch import nn

from inspectd.engine import memory
from inspectd.engine.memory import free_memory, values_held
from inspectd.engine.strips import GRANULE, Strips


def test_memory_is_measured() -> None:
    """A pass holds the input of a layer and its output; what is not needed any more does not count."""
    one = nn.Conv2d(3, 32, 1)
    more = nn.Sequential(one, nn.Conv2d(32, 3, 1), nn.Conv2d(3, 3, 1))
    assert held_a_pixel(one) == pytest.approx(32, rel=0.01)
    assert held_a_pixel(more) == pytest.approx(35, rel=0.01)


def test_strips_hold_one_of_their_maps_beside_the_whole_one() -> None:
    """A map may be larger than all that its making takes; strips that overlap much must not be kept."""
    widening, shape = nn.Conv2d(3, 100, 1), (3, GRANULE * 40, 16)
    cut = Strips.cut(shape, GRANULE * 5, GRANULE * 2, 1)
    assert len(cut.each) == 36
    picture = torch.zeros(1, *shape)
    whole = values_held(widening, picture)
    assert values_held(lambda some: cut.pass_through(some, widening), picture) < 1.3 * whole


def test_free_memory_is_the_smallest_of_the_groups_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / "factory.slice" / "inspectd.service"
    group.mkdir(parents=True)
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    own = tmp_path / "own"
    own.write_text("0::/factory.slice/inspectd.service\n")
    monkeypatch.setattr(memory, "OWN_GROUPS", own)

    def limit(folder: Path, most: str, used: int, of_files: int) -> None:
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {of_files}\n")

    limit(group, "max", 3_000, 0)
    assert free_memory() > 1e8, "there is no limit but the machine's"
    limit(group.parent, "10000", 9_000, 500)
    assert free_memory() == 1_500
    limit(group, "4000", 3_900, 0)
    assert free_memory() == 100
    limit(group, "4000", 5_000, 0)
    assert free_memory() == 0
