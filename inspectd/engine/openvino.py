"""OpenVINO on the CPU: the fastest way there, in bfloat16 where the processor has it."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from types import FrameType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from inspectd.engine.backend import Floats, Variant
from inspectd.engine.memory import Room
from inspectd.engine.runtime import CannotRunError, Head, Trunk, tracks_for, usable_cores
from inspectd.model.artefact import first_line
from inspectd.simplenet.folded import FoldedHead

ELEMENT_TYPES = {"float32": "f32", "bfloat16": "bf16"}
Shape = Sequence[int]
PARTS = 16
"""So many parts of a score are rounded each, and then added."""


class OpenVinoRuntime:
    """Compiles trunks and heads for this processor."""

    def __init__(self, precision: str, threads: int = 0) -> None:
        """`threads` 0: one for each core; a picture alone is spread over physical cores only."""
        self.variant = Variant("cpu:openvino", precision)
        self._cores = usable_cores(threads)
        self._core = _openvino().Core()
        self._type = getattr(_openvino().Type, ELEMENT_TYPES[precision])
        precision_hint = {"INFERENCE_PRECISION_HINT": ELEMENT_TYPES[precision], "PERFORMANCE_HINT": "LATENCY"}
        self._on_all_cores = precision_hint | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
        # Unpinned: else the tracks are all bound to the first core.
        self._on_one_core = precision_hint | {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}

    def room(self) -> Room:
        """Return what memory there is."""
        return Room.on_cpu()

    def compile(self, trunk: Trunk) -> OpenVinoTrunk:
        """Compile a trunk for one picture at a time on each track."""
        return OpenVinoTrunk(trunk, self, tracks_for(trunk, self._cores))

    def requests(
        self,
        module: nn.Module,
        shapes: Sequence[Shape],
        tracks: int = 1,
        *,
        narrow_inputs: Iterable[int] = (),
        narrow_outputs: Iterable[int] = (),
    ) -> list[Any]:
        """Return an inference request for each track of a module whose inputs have these shapes.

        The inputs and outputs with the given numbers are of the precision's own type, all others float32.
        """
        examples = tuple(torch.zeros(*shape) for shape in shapes)
        settings = self._on_all_cores if tracks == 1 else self._on_one_core
        try:
            with _signals_held_back(), _logging_untouched(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the tracer, about shapes that are constant here and meant to be
                graph = _openvino().convert_model(_traced(module, examples), input=[tuple(s) for s in shapes])
            typed = _openvino().preprocess.PrePostProcessor(graph)
            for i in narrow_inputs:
                typed.input(i).tensor().set_element_type(self._type)
            for i in narrow_outputs:
                typed.output(i).tensor().set_element_type(self._type)
            graph = typed.build()
            # Compiled for each track, not for several streams: requests of one compiled model wait for each other.
            return [self._core.compile_model(graph, "CPU", settings).create_infer_request() for _ in range(tracks)]
        except Exception as error:
            raise CannotRunError(f"OpenVINO cannot run this network ({first_line(error)[:200]})") from error

    def tensor(self, values: Tensor) -> Any:
        """Return a copy of float32 `values` in the precision's own type."""
        copy = _openvino().Tensor(self._type, _openvino().Shape(list(values.shape)))
        if self.variant.precision == "bfloat16":  # which numpy has not
            np.copyto(copy.data.view(np.int16), values.bfloat16().view(torch.int16).numpy())
        else:
            np.copyto(copy.data, values.numpy())
        return copy


class OpenVinoTrunk:
    """A trunk, compiled together with each kind of head that stands behind it; the heads' weights are inputs.

    So a head takes the memory of its weights and no more, is there at once, and needs no time to change places
    with another. Its products are as fast as those of constant weights, and nothing lies between trunk and head, which
    is worth a tenth of a small network's time. The price: heads of another kind cost the trunk's memory once more.
    """

    def __init__(self, trunk: Trunk, runtime: OpenVinoRuntime, tracks: int) -> None:
        self.tracks = tracks
        self._trunk = trunk
        self._runtime = runtime
        self._tracks = [_Track() for _ in range(tracks)]
        self._idle: SimpleQueue[_Track] = SimpleQueue()
        for track in self._tracks:
            self._idle.put(track)
        channels, *size = trunk.input_shape
        self._picture = (1, *size, channels)
        self._compiling = threading.Lock()

    def add(self, head: FoldedHead) -> OpenVinoHead:
        """Put a head behind the trunk."""
        head = _in_parts(head)
        inputs = [self._picture, *head.sizes]
        is_matrix = {id(tensor) for tensor in head.tensors if tensor.dim() > 1}
        matrices = [i for i, tensor in enumerate(head.tensors, 1) if id(tensor) in is_matrix]
        self._compile(head.kind, _Scoring(self._trunk, head), inputs, narrow_inputs=matrices)
        openvino, runtime = _openvino(), self._runtime
        weights = [runtime.tensor(t) if id(t) in is_matrix else openvino.Tensor(t.numpy()) for t in head.tensors]
        return OpenVinoHead(head.kind, weights)

    def score(self, inputs: Floats, heads: Sequence[Head]) -> Floats:
        """Return raw patch scores [B, h, w] of normalised inputs [B, 3, H, W], each by its head."""
        scores = []
        with self._track() as track:
            for one, head in zip(inputs, heads, strict=True):
                ours = cast("OpenVinoHead", head)
                infer = partial(track.infer, ours.kind, ours.weights)
                scores.append(self._trunk.strips.pass_through(one, infer))  # [h, w]
        return np.stack(scores)

    def _compile(self, kind: Hashable, module: nn.Module, inputs: Sequence[Shape], **narrow: Iterable[int]) -> None:
        """Have a request for this kind of head on each track."""
        with self._compiling:
            if kind in self._tracks[-1].requests:
                return
            requests = self._runtime.requests(module, inputs, self.tracks, **narrow)
            for track, request in zip(self._tracks, requests, strict=True):
                track.requests[kind] = request

    @contextmanager
    def _track(self) -> Iterator[_Track]:
        track = self._idle.get()
        try:
            yield track
        finally:
            self._idle.put(track)


@dataclass(frozen=True, slots=True, eq=False)
class OpenVinoHead:
    """The weights of a head, as inputs of the request for its kind."""

    kind: Hashable
    weights: Sequence[Any]


class _Track:
    """The requests of one picture at a time."""

    def __init__(self) -> None:
        self.requests: dict[Hashable, Any] = {}
        self._loaded: dict[Hashable, Sequence[Any]] = {}
        """By kind of head, the weights that its request was given last."""

    def infer(self, kind: Hashable, weights: Sequence[Any], one: Floats) -> Floats:
        """Return the scores [h, w] of a picture [3, H, W], or of a strip of it."""
        request = self.requests[kind]
        picture = np.ascontiguousarray(one.transpose(1, 2, 0)[None])  # [1, H, W, 3]
        request.set_input_tensor(0, _openvino().Tensor(picture, shared_memory=True))
        if self._loaded.get(kind) is not weights:
            for i, weight in enumerate(weights, 1):
                request.set_input_tensor(i, weight)
            self._loaded[kind] = weights
        request.infer()
        return cast("Floats", request.get_output_tensor(0).data[0].copy())


class _Scoring(nn.Module):
    """A whole network as OpenVINO runs it best: pictures in the order that convolutions read, weights as arguments."""

    def __init__(self, trunk: Trunk, like: FoldedHead) -> None:
        super().__init__()
        self.trunk = trunk
        self._like = like

    def forward(self, pictures: Tensor, *weights: Tensor) -> Tensor:
        pooled = self.trunk(pictures.permute(0, 3, 1, 2))
        return self._like.like(weights).scores(pooled, _multiplied)


def _multiplied(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a matrix to each patch as a product, which OpenVINO also does fast if the matrix is not constant."""
    patches = x.permute(0, 2, 3, 1).flatten(1, 2)  # [B, h·w, n]
    z = patches @ matrix.T if bias is None else patches @ matrix.T + bias
    return z.view(len(x), *x.shape[-2:], len(matrix)).permute(0, 3, 1, 2)  # [B, o, h, w]


def _in_parts(head: FoldedHead) -> FoldedHead:
    """Return a head that adds up its score from several products.

    OpenVINO rounds products to bfloat16, but not their sum: scores do not come in steps of half a percent.
    """
    if not head.matrices:
        return head
    *others, last = head.matrices  # last: [1, o]
    owners = torch.arange(last.shape[1]) % PARTS
    parts = last * (owners == torch.arange(PARTS)[:, None])  # [PARTS, o]
    bias = torch.cat([head.biases[-1], torch.zeros(PARTS - 1)])
    return replace(head, matrices=(*others, parts), biases=(*head.biases[:-1], bias))


def _traced(module: nn.Module, examples: tuple[Tensor, ...]) -> object:
    """Return what the module does with inputs of these shapes.

    OpenVINO's own way traces twice, to compare, which takes half as long again; here the parity gate compares.
    """
    trace: Callable[..., object] = torch.jit.trace
    with torch.inference_mode():
        return trace(module, examples, check_trace=False)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let Ctrl-C, or a daemon's stop, raise what it raises afterwards and not inside.

    The converter calls Python from C++, and of whatever is raised there it says that it cannot convert this network.
    """
    if threading.current_thread() is not threading.main_thread():  # it hears no signals
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, lambda *what: came.append(what))
    try:
        yield
    finally:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)
        for which, frame in came[:1]:
            cast("Callable[[int, FrameType | None], Any]", before[signal.Signals(which)])(which, frame)


@contextmanager
def _logging_untouched() -> Iterator[None]:
    """Undo what OpenVINO's converter does to the root logger, and leaves so when it fails."""
    root = logging.getLogger()
    level, handlers, filters = root.level, list(root.handlers), list(root.filters)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:], root.filters[:] = handlers, filters


def _openvino() -> Any:
    # OpenVINO reports its use over the network unless this package cannot be imported; a factory's daemon
    # talks to nobody it was not told to.
    sys.modules.setdefault("openvino_telemetry", cast("Any", None))
    import openvino

    return openvino
