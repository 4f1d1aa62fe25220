"""OpenVINO on the CPU: the fastest way there, in bfloat16 where the processor has it."""

from __future__ import annotations

import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from inspectd.engine.runtime import CannotRunError, Floats, Form, Head, Lap, Trunk, no_lap
from inspectd.simplenet.folded import FoldedHead

ELEMENT_TYPES = {"float32": "f32", "bfloat16": "bf16"}


def is_installed() -> bool:
    """Whether the extra `openvino` is there."""
    return importlib.util.find_spec("openvino") is not None


class OpenVinoRuntime:
    """Compiles trunks and heads for this processor."""

    def __init__(self, precision: str, threads: int = 0) -> None:
        """`threads` 0: OpenVINO's own choice, one for each physical core."""
        self.form = Form("cpu:openvino", precision)
        self._core = _openvino().Core()
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": ELEMENT_TYPES[precision],
        }
        if threads:
            self._settings["INFERENCE_NUM_THREADS"] = threads

    def compile(self, trunk: Trunk) -> OpenVinoTrunk:
        """Compile a trunk for one picture at a time."""
        return OpenVinoTrunk(trunk, self)

    def request(self, module: nn.Module, shapes: Sequence[Sequence[int]]) -> Any:
        """Return an inference request of a module whose inputs have these shapes."""
        examples = tuple(torch.zeros(*shape) for shape in shapes)
        try:
            with _logging_untouched(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the tracer, about shapes that are constant here and meant to be
                graph = _openvino().convert_model(module, example_input=examples, input=[tuple(s) for s in shapes])
            return self._core.compile_model(graph, "CPU", self._settings).create_infer_request()
        except Exception as error:
            raise CannotRunError(
                f"OpenVINO cannot run this network ({str(error).strip().splitlines()[0][:200]})"
            ) from error


class OpenVinoTrunk:
    """A compiled trunk; its outputs lie where the heads read them."""

    def __init__(self, trunk: Trunk, runtime: OpenVinoRuntime) -> None:
        self._runtime = runtime
        self._request = runtime.request(_AsTuple(trunk), [(1, *trunk.input_shape)])
        self._pooled = [(1, *shape) for shape in trunk.shapes]

    def add(self, head: FoldedHead) -> OpenVinoHead:
        """Compile a head behind the trunk."""
        request = self._runtime.request(_FromTuple(head), self._pooled)
        for i in range(len(self._pooled)):
            request.set_input_tensor(i, self._request.get_output_tensor(i))
        return OpenVinoHead(request)

    def score(self, inputs: Floats, heads: Sequence[Head], lap: Lap = no_lap) -> Floats:
        """Return raw patch scores [B, h, w] of normalised inputs [B, 3, H, W], each by its head."""
        scores = []
        for i, head in enumerate(heads):
            self._request.set_input_tensor(_openvino().Tensor(inputs[i : i + 1], shared_memory=True))
            self._request.infer()
            lap("backbone")
            scores.append(cast("OpenVinoHead", head).run())
            lap("head")
        return np.stack(scores)

    def run(self, inputs: Floats) -> None:
        """Pass inputs through the trunk, and drop what comes out."""
        for i in range(len(inputs)):
            self._request.set_input_tensor(_openvino().Tensor(inputs[i : i + 1], shared_memory=True))
            self._request.infer()


class OpenVinoHead:
    """A compiled head that reads its trunk's outputs."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def run(self) -> Floats:
        """Return raw patch scores [h, w] of what the trunk saw last."""
        self._request.infer()
        scores: Floats = self._request.get_output_tensor(0).data[0].copy()
        return scores


class _AsTuple(nn.Module):
    """OpenVINO's outputs are a tuple of tensors."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.trunk(pictures))


class _FromTuple(nn.Module):
    """OpenVINO's inputs are one argument each."""

    def __init__(self, head: FoldedHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, *pooled: Tensor) -> Tensor:
        return cast("Tensor", self.head(pooled))


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
