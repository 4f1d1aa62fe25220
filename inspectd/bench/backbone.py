"""A model's backbone by itself, on the same runtimes as the engine's: what every method that uses it pays at least."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

import torch
from torch import Tensor, nn

from inspectd.engine.backend import Floats, Variant
from inspectd.engine.openvino import OpenVinoRuntime
from inspectd.engine.torch_cpu import DTYPES, sharing_weights
from inspectd.engine.workers import Workers
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.fusing import fused

Run = Callable[[Floats], object]
"""Passes normalised inputs [B, 3, H, W] through a backbone."""


def backbone_alone(model: Bundle, variant: Variant, tracks: int) -> Run:
    """Return a model's backbone, compiled for a variant. `tracks`: how many pictures a CPU passes through at once."""
    module = fused(model.backbone, torch.zeros(1, *model.params.input_shape))
    if variant.device == "cpu:openvino":
        return _openvino(module, model, variant, tracks)
    if variant.device == "cpu:torch":
        return _torch(module, variant, tracks)
    return _cuda(module, variant)


def _openvino(module: nn.Module, model: Bundle, variant: Variant, tracks: int) -> Run:
    channels, *size = model.params.input_shape
    narrow = range(len(model.params.layers_to_extract_from))
    runtime = OpenVinoRuntime(variant.precision)
    requests = runtime.requests(_ChannelsLast(module), [(1, *size, channels)], tracks, narrow_outputs=narrow)
    idle: SimpleQueue[object] = SimpleQueue()
    for request in requests:
        idle.put(request)

    def run(picture: Floats) -> None:
        request = idle.get()
        request.infer([picture.transpose(1, 2, 0)[None]])  # type: ignore[attr-defined]
        idle.put(request)

    return _side_by_side(run, tracks)


class _ChannelsLast(nn.Module):
    """OpenVINO's outputs are a tuple; its pictures lie in the order that convolutions read."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        maps = self.module(pictures.permute(0, 3, 1, 2))  # [B, n, h, w]
        return tuple(x.permute(0, 2, 3, 1) for x in maps)


def _torch(module: nn.Module, variant: Variant, tracks: int) -> Run:
    dtype = DTYPES[variant.precision]
    module = module.to(dtype).to(memory_format=torch.channels_last)
    idle: SimpleQueue[nn.Module] = SimpleQueue()
    for _ in range(tracks):
        idle.put(sharing_weights(module))

    def run(picture: Floats) -> None:
        one = idle.get()
        with torch.inference_mode():
            one(torch.from_numpy(picture)[None].to(dtype, memory_format=torch.channels_last))
        idle.put(one)

    return _side_by_side(run, tracks)


def _side_by_side(run: Callable[[Floats], None], tracks: int) -> Run:
    if tracks > 1:
        return partial(Workers(tracks).map, run)
    return lambda inputs: list(map(run, inputs))


def _cuda(module: nn.Module, variant: Variant) -> Run:
    from inspectd.engine.gpu.streams import CudaDevice

    device, dtype = CudaDevice(torch.device(variant.device)), DTYPES[variant.precision]
    module = module.to(device.torch_device, dtype).to(memory_format=torch.channels_last)
    compute = device.stream()
    graphs: dict[int, Callable[[], object]] = {}

    def run(inputs: Floats) -> None:
        if len(inputs) not in graphs:
            held = torch.from_numpy(inputs).to(device.torch_device, dtype).contiguous(memory_format=torch.channels_last)
            device.synchronise()  # it was written on another stream
            graphs[len(inputs)] = device.graph(compute, lambda: module(held))
        compute.run(graphs[len(inputs)])
        compute.record().wait()

    return run
