"""All backends of a CPU answer alike; the parity gate lets none judge that disagrees with the textbook."""

from __future__ import annotations

import dataclasses
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
import pytest
import torch
from conftest import torch_threads, write_small_model

from inspectd.engine import devices, openvino
from inspectd.engine.backend import Backend, Floats, Request, Variant
from inspectd.engine.choose import choose_backend
from inspectd.engine.cpu import CpuBackend
from inspectd.engine.devices import check_engine
from inspectd.engine.parity import parity_inputs, textbook_scores
from inspectd.engine.prepared import PreparedModels
from inspectd.engine.runtime import CannotRunError, Head, Trunk
from inspectd.engine.torch_cpu import TorchRuntime, TorchTrunk
from inspectd.errors import UsageError
from inspectd.simplenet import bundle
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.folded import FoldedHead

FORMS = [("cpu:torch", "float32", 1e-4), ("cpu:openvino", "float32", 1e-4)]
if devices.has_bfloat16():  # a processor without it is asked for nothing
    FORMS += [("cpu:torch", "bfloat16", 0.1), ("cpu:openvino", "bfloat16", 0.1)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("backends")
    return [bundle.load(write_small_model(folder / name, threshold=10.0 * t)) for t, name in enumerate("ab", 1)]


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model with a memory bank that averages its scores."""
    return bundle.load(write_small_model(tmp_path_factory.mktemp("backends") / "memory", memory=True))


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: f"{form[0]}-{form[1]}")
def backend_and_bound(
    request: pytest.FixtureRequest, models: list[Bundle], remembering: Bundle
) -> tuple[Backend, float]:
    device, precision, bound = request.param
    backend = choose_backend(device, precision)
    for model in (*models, remembering):
        backend.prepare(model)
    return backend, bound


def pictures() -> list[np.ndarray]:
    draws = np.random.default_rng(0)
    sizes: list[tuple[int, ...]] = [(48, 64, 3), (100, 30), (64, 64, 3), (1, 1, 3)]
    return [draws.integers(0, 255, size, np.uint8) for size in sizes]


def test_scores_are_the_textbooks(
    backend_and_bound: tuple[Backend, float], models: list[Bundle], remembering: Bundle
) -> None:
    backend, bound = backend_and_bound
    pairs = zip((*models, remembering, models[0]), pictures(), strict=True)
    requests = [Request(model, model.geometry, picture) for model, picture in pairs]
    together = backend.score(requests)
    for request, scores in zip(requests, together, strict=True):
        pixels = torch.from_numpy(backend_input(request))
        with torch.inference_mode():
            expected = cast("Bundle", request.model).network(pixels[None])[0].numpy()
        assert scores.shape == expected.shape
        assert np.abs(scores - expected).max() <= bound * np.abs(expected).max()
        assert np.allclose(scores, backend.score([request])[0], atol=1e-6), "alone as in company"
    assert backend.score([]) == []


def backend_input(request: Request) -> Floats:
    from inspectd.simplenet.preprocess import network_input

    model = request.model
    return network_input(request.picture, request.geometry, model.white_level, *model.normalisation)


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 3), (90, 120), (90, 120, 3)])
def test_a_flipped_view_of_a_picture_is_a_picture(models: list[Bundle], shape: tuple[int, ...]) -> None:
    flipped = np.random.default_rng(0).integers(0, 255, shape, np.uint8)[::-1, ::-1]
    seen, copied = (
        backend_input(Request(models[0], models[0].geometry, one)) for one in (flipped, np.ascontiguousarray(flipped))
    )
    assert np.array_equal(seen, copied)


def test_inputs_in_every_stage_of_preparation_score_alike(
    backend_and_bound: tuple[Backend, float], models: list[Bundle]
) -> None:
    backend, _ = backend_and_bound
    request = Request(models[0], models[0].geometry, pictures()[2])
    normalised = backend_input(request)[None]
    expected = backend.score([request])[0]
    assert np.allclose(backend.score_normalised(models[0], normalised)[0], expected, atol=1e-6)
    with backend.seat() as score:
        assert np.allclose(score([request])[0], expected, atol=1e-6)


def test_a_score_that_is_no_number_stays_none(backend_and_bound: tuple[Backend, float], models: list[Bundle]) -> None:
    backend, _ = backend_and_bound
    broken = np.full((1, *models[0].params.input_shape), np.nan, np.float32)
    assert np.isnan(backend.score_normalised(models[0], broken)).any()


class Counting(TorchRuntime):
    """Counts what it compiles."""

    def __init__(self, precision: str = "float32") -> None:
        super().__init__(precision)
        self.compiled = 0

    def compile(self, trunk: Trunk) -> TorchTrunk:
        self.compiled += 1
        return super().compile(trunk)


def test_what_was_not_prepared_is_not_scored(models: list[Bundle]) -> None:
    """Scoring never compiles: that would hold up every camera for seconds."""
    runtime = Counting()
    backend = CpuBackend([runtime])
    request = Request(models[0], models[0].geometry, pictures()[0])
    with pytest.raises(LookupError, match="was scored before it was prepared"):
        backend.score([request])
    assert runtime.compiled == 0
    backend.prepare(models[0])
    backend.score([request])
    backend.forget(models[0])
    with pytest.raises(LookupError, match="was scored before it was prepared"):
        backend.score([request])


def test_models_with_the_same_backbone_share_one_trunk(models: list[Bundle]) -> None:
    runtime = Counting()
    models_at_hand = PreparedModels([runtime])
    first, second = (models_at_hand.prepare(model) for model in models)
    assert first.trunk is second.trunk
    assert first.head is not second.head
    assert runtime.compiled == 1
    models_at_hand.forget(models[0])
    assert models_at_hand.prepare(models[1]) is second
    models_at_hand.forget(models[1])
    assert models_at_hand.prepare(models[1]).trunk is not second.trunk, "the last one took the trunk with it"


def test_a_model_is_prepared_and_forgotten_while_another_judges(
    backend_and_bound: tuple[Backend, float], models: list[Bundle]
) -> None:
    backend, _ = backend_and_bound
    first, second = (Request(model, model.geometry, pictures()[0]) for model in models)
    expected, of_second = backend.score([first])[0], backend.score([second])[0]
    is_over = threading.Event()

    def change() -> None:
        try:
            for _ in range(10):
                backend.forget(models[1])
                backend.prepare(models[1])
        finally:
            is_over.set()

    changing = threading.Thread(target=change)
    changing.start()
    scored = 0
    while not is_over.is_set() or scored < 20:
        assert np.array_equal(backend.score([first])[0], expected)
        scored += 1
    changing.join()
    assert np.array_equal(backend.score([second])[0], of_second)


def test_a_further_head_of_the_same_shape_compiles_nothing(models: list[Bundle]) -> None:
    compiled: list[object] = []

    class Watched(openvino.OpenVinoRuntime):
        def requests(self, *args: Any, **named: Any) -> list[Any]:
            compiled.append(args)
            return super().requests(*args, **named)

    models_at_hand = PreparedModels([Watched("float32")])
    for model in models:
        models_at_hand.prepare(model)
    assert len(compiled) == 1


def test_loaded_together_models_share_the_backbone_in_memory(tmp_path: Path) -> None:
    folders = [write_small_model(tmp_path / name, threshold=t) for t, name in enumerate("abc", 1)]
    shared: dict[str, torch.nn.Module] = {}
    loaded = [bundle.load(folder, shared=shared) for folder in folders]
    assert all(model.backbone is loaded[0].backbone for model in loaded)
    assert len(shared) == 1
    assert bundle.load(folders[0]).backbone is not loaded[0].backbone


class Wrong(TorchRuntime):
    """A variant that scores otherwise than the textbook."""

    def __init__(self, by: float) -> None:
        super().__init__("float32")
        self.variant = Variant("cpu:wrong", "float8")
        self._by = by

    def compile(self, trunk: Trunk) -> TorchTrunk:
        compiled, by = super().compile(trunk), self._by

        class Shifted(TorchTrunk):
            def __init__(self) -> None:
                pass

            def add(self, head: FoldedHead) -> FoldedHead:
                return compiled.add(head)

            def score(self, inputs: Floats, heads: Sequence[Head]) -> Floats:
                scores: Floats = compiled.score(inputs, heads) + np.float32(by)
                return scores

        return Shifted()


def room(model: Bundle) -> float:
    calibration = model.calibration
    assert calibration is not None
    assert calibration.threshold is not None
    return calibration.threshold.value - float(np.median(calibration.held_out_scores))


def test_a_form_that_is_too_far_from_the_textbook_falls_back_and_says_so(
    models: list[Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    models_at_hand = PreparedModels([Wrong(0.6 * room(models[0])), TorchRuntime("float32")])
    with caplog.at_level(logging.WARNING):
        prepared = models_at_hand.prepare(models[0])
    assert prepared.parity.variant == Variant("cpu:torch", "float32")
    assert "cpu:wrong float8 differs from the textbook" in caplog.text
    assert "judged in cpu:torch float32" in caplog.text
    near = PreparedModels([Wrong(0.4 * room(models[0]))]).prepare(models[0])
    assert near.parity.variant.precision == "float8"
    assert near.parity.band == pytest.approx(0.4 * room(models[0]), rel=1e-3)


@pytest.mark.parametrize("by", [1e3, float("nan"), float("inf")])
def test_a_model_that_no_form_agrees_on_is_refused(models: list[Bundle], by: float) -> None:
    with pytest.raises(UsageError, match=r"may not judge here: cpu:wrong float8 differs .* allowed"):
        PreparedModels([Wrong(by)]).prepare(models[0])


@pytest.mark.parametrize("by", [float("nan"), float("inf")])
def test_a_draft_may_be_far_off_but_not_without_number(models: list[Bundle], by: float) -> None:
    assert PreparedModels([Wrong(1e3)]).prepare(models[0], is_draft=True).parity.band == pytest.approx(1e3, rel=1e-3)
    with pytest.raises(UsageError, match="may not judge"):
        PreparedModels([Wrong(by)]).prepare(models[0], is_draft=True)


def test_the_gate_takes_the_calibrations_own_pictures(models: list[Bundle]) -> None:
    assert parity_inputs(models[0])[1] is False, "the small model was written without any"
    own = [np.full((48, 64, 3), grey, np.uint8) for grey in (0, 100)]
    model = dataclasses.replace(models[0], parity=lambda: list(own))
    inputs, is_own = parity_inputs(model)
    assert (len(inputs), is_own) == (2, True)
    parity = PreparedModels([TorchRuntime("float32")]).prepare(model).parity
    assert "2 of its calibration's pictures" in str(parity)
    assert parity.band < 1e-3 * np.abs(textbook_scores(model, inputs)).max()


def test_a_network_that_a_runtime_cannot_run_is_run_by_the_next(
    models: list[Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    class Unable(TorchRuntime):
        def compile(self, trunk: Trunk) -> TorchTrunk:
            raise CannotRunError("it has a layer that nobody knows")

    with caplog.at_level(logging.WARNING):
        PreparedModels([Unable("float32"), TorchRuntime("float32")]).prepare(models[0])
    assert "a layer that nobody knows" in caplog.text


def test_openvino_says_what_it_cannot_run() -> None:
    class Odd(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(pictures)

    root = logging.getLogger()
    before = (root.level, list(root.handlers), list(root.filters))
    with pytest.raises(CannotRunError, match="OpenVINO cannot run"):
        openvino.OpenVinoRuntime("float32").requests(Odd(), [(1, 3, 4, 4)])
    assert (root.level, root.handlers, root.filters) == before, "the daemon's log goes on as it was"


class Stopped(BaseException):
    """What a handler of a signal raises."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_openvinos_converter_stops_the_program(number: signal.Signals) -> None:
    """Where it calls Python, from C++, it takes what a handler raises for a network that it cannot convert."""
    sent = []

    def send(frame: FrameType, event: str, argument: object) -> None:
        if not sent and (event, frame.f_code.co_name) == ("call", "mark_node"):
            sent.append(signal.raise_signal(number))

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    before = signal.signal(number, stop)
    sys.setprofile(send)
    try:
        with pytest.raises(Stopped):
            openvino.OpenVinoRuntime("float32").requests(torch.nn.Conv2d(3, 3, 1), [(1, 3, 4, 4)])
        assert signal.getsignal(number) is stop
    finally:
        sys.setprofile(None)
        signal.signal(number, before)
    assert sent


def test_openvino_tells_nobody_that_it_is_used() -> None:
    openvino.OpenVinoRuntime("float32")
    assert sys.modules["openvino_telemetry"] is None


@pytest.mark.parametrize("name", ["cuda:99", "cuda:7"])
def test_a_device_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' does not exist"):
        check_engine(name, "auto")


def test_a_precision_that_the_device_cannot_do_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'float16' is not possible on the device 'cpu'; expected auto"):
        choose_backend("cpu", "float16")


def test_openvino_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_openvino", lambda: False)
    with pytest.raises(UsageError, match=r"pip install 'inspectd\[openvino\]'"):
        check_engine("cpu:openvino", "auto")
    backend = choose_backend("cpu")
    assert backend.variant.device == "cpu:torch"
    assert "not installed" in backend.why


@pytest.mark.parametrize(("has", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_auto_takes_the_precision_that_the_processor_is_fast_in(
    monkeypatch: pytest.MonkeyPatch, has: bool, precision: str
) -> None:
    monkeypatch.setattr(devices, "has_bfloat16", lambda: has)
    assert choose_backend("cpu").variant == Variant("cpu:openvino", precision)
    assert choose_backend("cpu:torch").variant == Variant("cpu:torch", precision)
    assert choose_backend("cpu", "float32").variant.precision == "float32"


def test_a_model_is_judged_in_the_form_that_its_threshold_was_set_in(tmp_path: Path) -> None:
    folder = write_small_model(tmp_path / "model", device="cpu:torch", precision="float32")
    model = bundle.load(folder)
    runtimes = [Wrong(0.0), TorchRuntime("float32")]
    assert PreparedModels(runtimes).prepare(model).parity.variant == Variant("cpu:torch", "float32")
    assert PreparedModels(runtimes[:1]).prepare(model).parity.variant == Variant("cpu:wrong", "float8"), (
        "what else there is"
    )


def test_only_the_threads_that_score_are_single_threaded(models: list[Bundle]) -> None:
    with torch_threads(2):
        backend = choose_backend("cpu:torch", "float32")
        backend.prepare(models[0])
        backend.score([Request(models[0], models[0].geometry, pictures()[0])])
        seen: list[int] = []
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert (torch.get_num_threads(), seen) == (2, [2])
        with backend.seat() as score:
            score([Request(models[0], models[0].geometry, pictures()[0])])
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2, "it leaves the thread as it was"
