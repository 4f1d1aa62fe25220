"""Pictures larger than memory: in strips, whose scores are the whole picture's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes.streams import FakeDevice
from hypothesis import given
from hypothesis import strategies as st
from tall import EQUAL, ROWS, TALL, difference, held_a_pixel, leave_memory, scores_of_the_whole, tall_inputs, tall_model
from torch import Tensor, nn

from calibrate.training import embedding, withstood
from calibrate.training.embedding import FoldedEmbedder
from inspectd import SimpleNet
from inspectd.engine import parity, runtime, strips
from inspectd.engine.cpu import CpuBackend
from inspectd.engine.gpu.backend import GpuBackend
from inspectd.engine.memory import Room
from inspectd.engine.openvino import OpenVinoRuntime
from inspectd.engine.prepared import PreparedModels
from inspectd.engine.strips import GRANULE, SPARE, Strips, find_reach, find_strips
from inspectd.engine.torch_cpu import TorchRuntime
from inspectd.errors import UsageError
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet.bundle import head_shape
from inspectd.simplenet.network import Head, embed

pytestmark = pytest.mark.usefixtures("one_thread")

# The cut


@given(
    height=st.integers(2, 40),
    thick=st.integers(1, 39),
    reach=st.integers(0, 3),
    stride=st.sampled_from([1, 4, 8, 32]),
    data=st.data(),
)
def test_every_row_is_seen_once_and_as_if_the_picture_were_whole(
    height: int, thick: int, reach: int, stride: int, data: st.DataObject
) -> None:
    """The network adds up what it reaches, padded with zeros, so a row that is missing or cut short shows."""
    shape = (1, GRANULE * height, 1)
    if thick <= 2 * reach and thick < height:
        with pytest.raises(ValueError, match="too few"):
            Strips.cut(shape, GRANULE * thick, GRANULE * reach, stride)
        return
    picture = torch.tensor(data.draw(st.randoms()).choices(range(1000), k=shape[1]), dtype=torch.float64)
    kernel = torch.ones(1, 1, stride + 2 * GRANULE * reach, 1, dtype=torch.float64)

    def network(some: Tensor) -> Tensor:
        assert some.shape[-2] <= GRANULE * thick
        return F.conv2d(some, kernel, stride=(stride, 1), padding=(GRANULE * reach, 0))

    cut = Strips.cut(shape, GRANULE * thick, GRANULE * reach, stride)
    whole = F.conv2d(picture.view(1, *shape), kernel, stride=(stride, 1), padding=(GRANULE * reach, 0))
    assert torch.equal(cut.pass_through(picture.view(1, *shape), network), whole)
    assert cut.whole_grid((cut.shape[1] // stride, 1)) == tuple(whole.shape[-2:])


# The reach


def stack(*kernels: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Conv2d(3, 3, (k, 1), padding=(k // 2, 0)) for k in kernels))


def test_the_reach_is_what_the_layers_say() -> None:
    assert find_reach(stack(3, 3, 3)) == strips.Reach(32, 1)  # three rows, as whole cells
    assert find_reach(stack(65)) == strips.Reach(32, 1)
    assert find_reach(stack(65, 3)) == strips.Reach(64, 1)
    strided = nn.Sequential(nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, stride=4, padding=1))
    assert find_reach(strided) == strips.Reach(32, 8)


class SeesAll(nn.Module):
    """Squeeze and excitation, roughly."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures * pictures.mean((2, 3), keepdim=True)


class KnowsWhere(nn.Module):
    """Adds where in the picture a patch lies."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures + self.step * torch.arange(pictures.shape[-2])[:, None]


class RunningSum(nn.Module):
    """Sees everything above."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.cumsum(-2)


class OneSize(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        if pictures.shape[-1] != 224:
            raise AssertionError("expected 224")
        return pictures


class Deaf(nn.Module):
    """Turns a NaN into a number, so that nothing is known of its reach."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.nan_to_num()


class Gate(nn.Module):
    """Lets a strong value far away decide, through a comparison, in which a NaN is lost."""

    def __init__(self, away: int) -> None:
        super().__init__()
        self.away = away

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures * (1 + (pictures.roll(self.away, -2).abs() > 10))


NOT_WHOLE = "strips of this network are not the whole"


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (SeesAll(), strips.ALL_AT_ONCE),
        (KnowsWhere(1), NOT_WHOLE),
        (KnowsWhere(1e-6), NOT_WHOLE),
        (RunningSum(), strips.ALL_AT_ONCE),
        (Gate(100), NOT_WHOLE),
        (Gate(300), NOT_WHOLE),
        (OneSize(), "this network takes pictures of one size only"),
        (Deaf(), "how far this network sees does not show"),
    ],
    ids=repr,
)
def test_what_cannot_be_cut_is_found_out(network: nn.Module, why: str) -> None:
    assert find_reach(network) == why


@pytest.mark.parametrize("network", [nn.Conv2d(3, 3, 3, stride=3), nn.Conv2d(3, 3, (64, 1), stride=(64, 1))], ids=repr)
def test_a_stride_that_does_not_divide_the_strips_is_found_out(network: nn.Module) -> None:
    assert find_reach(network) == "32 rows are no whole number of its patches"


def test_the_embedded_backbone_can_be_cut_and_one_with_squeeze_and_excitation_cannot() -> None:
    reach = find_reach(tall_model().network)
    assert isinstance(reach, strips.Reach)
    assert 128 <= reach.rows <= 256
    squeezing = backbones.create("efficientnet_b0", ("blocks.1",), (3, 64, 64))
    assert find_reach(lambda pictures: squeezing(pictures)[0]) == strips.ALL_AT_ONCE


# All forms of a network


def test_strips_of_the_textbook_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    one = tall_model()
    whole = scores_of_the_whole(one)
    leave_memory(monkeypatch, one.network, ROWS)
    seen = find_strips(lambda: one.network, TALL, Room.on_cpu())
    assert seen.shape[1] <= ROWS
    assert len(seen.each) > 1
    assert difference(parity.textbook_scores(one, tall_inputs()), whole) <= EQUAL


@pytest.mark.parametrize("runtime", [TorchRuntime, OpenVinoRuntime])
def test_strips_of_a_runtime_are_the_whole(
    monkeypatch: pytest.MonkeyPatch, runtime: type[TorchRuntime | OpenVinoRuntime]
) -> None:
    one = tall_model()
    whole = scores_of_the_whole(one)
    backend = CpuBackend([runtime("float32")], threads=1)
    free = leave_memory(monkeypatch, one.network, ROWS)
    backend.prepare(one)
    (prepared,) = backend._models._prepared.values()
    assert len(prepared.key.strips.each) > 1, free
    assert difference(backend.score_normalised(one, tall_inputs()), whole) <= EQUAL


def test_strips_on_a_gpu_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    one = tall_model()
    whole = scores_of_the_whole(one)
    device = FakeDevice()
    device.memory = leave_memory(monkeypatch, one.network, ROWS)
    backend = GpuBackend(device, ["float32"], max_batch=2)
    backend.prepare(one)
    (prepared,) = backend._models._prepared.values()
    assert len(prepared.key.strips.each) > 1
    assert difference(backend.score_normalised(one, tall_inputs()), whole) <= EQUAL


def test_strips_of_what_is_learned_from_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    one = tall_model()
    shape = one.head_shape
    pixels = torch.randint(0, 256, (1, *TALL)).float()
    rows, grid = embed(
        one.backbone(FoldedEmbedder(one.backbone, shape, TALL, torch.device("cpu"))._normalise(pixels)), shape
    )
    leave_memory(monkeypatch, one.network, ROWS)
    embedder = FoldedEmbedder(one.backbone, shape, TALL, torch.device("cpu"))
    assert len(embedder._strips.each) > 1
    assert embedder.grid == grid
    assert difference(embedder(pixels)[0].numpy(), rows.detach().numpy()) <= EQUAL


def test_a_trunk_that_is_there_serves_the_next_model_whatever_memory_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    one = tall_model()
    models = PreparedModels([TorchRuntime("float32")])
    leave_memory(monkeypatch, one.network, ROWS)
    first = models.prepare(one)
    leave_memory(monkeypatch, one.network, ROWS - 64)
    assert models.prepare(dataclasses.replace(one, digest="another")).trunk is first.trunk
    params = msgspec.structs.replace(one.params, score_window=5)
    head = Head(head_shape(params)).eval()
    head.load_state_dict(one.head.state_dict())
    wider = dataclasses.replace(one, digest="wider", params=params, head=head)
    assert models.prepare(wider).trunk is not first.trunk, "it sees farther than the strips overlap"


def test_a_whole_trunk_takes_no_other_head_for_which_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    one = tall_model()
    models = PreparedModels([TorchRuntime("float32")])
    leave_memory(monkeypatch, one.network, 4 * TALL[1])
    assert not models.prepare(one).key.strips.each
    params = msgspec.structs.replace(one.params, memory_patches=2000)
    head = Head(head_shape(params)).eval()
    larger = dataclasses.replace(one, digest="larger", params=params, head=head)
    leave_memory(monkeypatch, larger.network, ROWS)
    assert models.prepare(larger).key.strips.each


def test_a_calibration_in_strips_is_the_one_of_whole_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = np.random.default_rng(0)
    good = [draws.normal(120, 4, (576, 64, 3)).astype(np.uint8) for _ in range(8)]
    settings = {"steps": 5, "imagesize": (576, 64), "memory_patches": 50, "probes": 4, "made": 8}
    monkeypatch.setattr(strips, "FEW_PIXELS", 0)
    monkeypatch.setattr(withstood, "DISTURBED", 1)
    monkeypatch.setattr(strips, "_measured", lambda _: (80.0, 0.0))  # or one form fits, and another does not
    cut: set[str] = set()

    def noted(place: str) -> Callable[..., Strips]:
        def find(*given: Any) -> Strips:
            seen = find_strips(*given)
            if seen.each:
                cut.add(place)
            return seen

        return find

    places = {"textbook": parity, "folded network": runtime, "what is learned from": embedding}
    for place, module in places.items():
        monkeypatch.setattr(module, "find_strips", noted(place))
    found = []
    for free in (1 << 40, 33_000_000):
        assert not cut
        monkeypatch.setattr(Room, "on_cpu", classmethod(lambda cls, free=free: cls(free)))
        calibration = SimpleNet("cpu:torch").fit(good, **settings).model.calibration
        assert calibration is not None
        found.append(calibration.held_out_scores)
    assert cut == set(places)
    assert found[1] == pytest.approx(found[0], rel=1e-3)


def test_what_a_network_needs_and_sees_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "FEW_PIXELS", 0)
    prepared = []

    def prepare() -> nn.Module:
        prepared.append(1)
        return stack(3, 3)

    backbone = nn.Identity()
    rooms = [Room(free) for free in (4_500_000, 4_200_000, 1 << 40)]
    found = [find_strips(prepare, TALL, room, strips.known_of(backbone, "a")) for room in rooms]
    assert len(prepared) == 2
    assert [bool(cut.each) for cut in found] == [True, True, False]
    find_strips(prepare, TALL, rooms[2], strips.known_of(backbone, "another"))
    assert len(prepared) == 3


def test_pictures_share_a_pass_as_far_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    known = strips.Known()
    assert known.at_once(Strips.whole(TALL), Room(0), 6) == 6, "nothing was measured: the pictures are small"
    monkeypatch.setattr(strips, "FEW_PIXELS", 0)
    needed = int(SPARE * held_a_pixel(stack(3)) * TALL[1] * TALL[2] * 4 / 0.5)
    assert not find_strips(lambda: stack(3), TALL, Room(100 * needed), known).each
    assert [known.at_once(Strips.whole(TALL), Room(some * needed + 999), 6) for some in (0, 1, 3, 100)] == [1, 1, 3, 6]


# What cannot be


def test_as_a_rule_a_picture_goes_through_whole() -> None:
    def never() -> Callable[[Tensor], Tensor]:
        raise AssertionError("nothing is measured for a picture that fits everywhere")

    assert find_strips(never, (3, 704, 704), Room(0)) == Strips.whole((3, 704, 704))


@pytest.mark.parametrize(
    ("shape", "network", "free", "says"),
    [
        (
            TALL,
            stack(65, 65),
            60_000,
            r"64x1056 takes about .* even a strip of its 160 rows .* smaller input \(--imagesize",
        ),
        (TALL, SeesAll(), 100_000, r"sees all of it at once\. Use a smaller --imagesize or another backbone\.$"),
        ((3, 1000, 64), stack(3), 100_000, r"1000 rows are no multiple of 32\. Use an --imagesize of multiples of 32"),
    ],
)
def test_what_memory_cannot_hold_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], network: nn.Module, free: int, says: str
) -> None:
    monkeypatch.setattr(strips, "FEW_PIXELS", 0)
    with pytest.raises(UsageError, match=says) as refused:
        find_strips(lambda: network, shape, Room(free))
    assert "\n" not in str(refused.value)


def test_what_cannot_be_cut_goes_through_whole_where_there_may_just_be_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "FEW_PIXELS", 0)
    needed = SPARE * held_a_pixel(SeesAll()) * TALL[1] * TALL[2] * 4
    assert find_strips(SeesAll, TALL, Room(int(needed * 1.01))) == Strips.whole(TALL)
    assert find_strips(OneSize, TALL, Room(0)) == Strips.whole(TALL), "its maker said for which size"
