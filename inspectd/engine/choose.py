"""Which device and precision a machine judges with, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from inspectd.engine import devices
from inspectd.engine.cpu import CpuBackend
from inspectd.engine.gpu.backend import GpuBackend
from inspectd.engine.gpu.streams import CudaDevice
from inspectd.engine.openvino import OpenVinoRuntime
from inspectd.engine.runtime import Runtime
from inspectd.engine.torch_cpu import TorchRuntime
from inspectd.errors import UsageError

if TYPE_CHECKING:
    from inspectd.engine.backend import Backend


def choose_backend(device: str = "auto", precision: str = "auto", *, threads: int = 0, max_batch: int = 16) -> Backend:
    """Return the backend that these settings mean on this machine; UsageError when it cannot do them.

    `device`: `auto` (the first NVIDIA GPU, else the CPU), `cpu` (OpenVINO where it is installed, else torch),
    `cpu:openvino`, `cpu:torch`, `cuda`, `cuda:N`. `precision`: `auto` (float16 on a GPU, bfloat16 where the
    processor has it, and float32 for models that lose too much), `float32`, `bfloat16`, `float16`.
    `max_batch`: the most pictures that a GPU takes in one pass.
    """
    devices.check_engine(device, precision)
    gpu = torch_device(device)
    if gpu.type == "cuda":
        precisions = ("float16", "float32") if precision == "auto" else (precision,)
        why = "there is a usable NVIDIA GPU" if device == "auto" else "it was asked for"
        return GpuBackend(CudaDevice(gpu), precisions, why, max_batch)
    return _cpu("cpu" if device == "auto" else device, precision, threads)


def _cpu(device: str, precision: str, threads: int) -> CpuBackend:
    if threads:
        torch.set_num_threads(threads)
    may_fall_back = device == "cpu"
    if may_fall_back:
        device = "cpu:openvino" if devices.has_openvino() else "cpu:torch"
        reasons = [f"{'OpenVINO is' if devices.has_openvino() else 'the extra openvino is not'} installed"]
    else:
        reasons = ["it was asked for"]
    if precision == "auto":
        precisions = ("bfloat16", "float32") if devices.has_bfloat16() else ("float32",)
        reasons.append(f"this processor {'computes' if devices.has_bfloat16() else 'does not compute'} in bfloat16")
    else:
        precisions = (precision,)
    runtimes: list[Runtime] = [
        OpenVinoRuntime(one, threads) if device == "cpu:openvino" else TorchRuntime(one, threads) for one in precisions
    ]
    if may_fall_back and device == "cpu:openvino":
        runtimes += [TorchRuntime(one, threads) for one in precisions]
    return CpuBackend(runtimes, ", ".join(reasons), threads)


def torch_device(name: str) -> torch.device:
    """Return torch's device for a name; UsageError when it is absent, or no device."""
    devices.check_name(name)
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if not name.startswith("cuda"):
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        raise UsageError(
            f"The device {name!r} does not exist: this machine has {count} usable NVIDIA GPUs. "
            "Use device: auto, or cpu."
        )
    return torch.device("cuda", index)
