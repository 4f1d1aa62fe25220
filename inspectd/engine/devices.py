"""What this machine can judge with, as far as it is known without torch."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

from inspectd.config import DEVICE_NAMES
from inspectd.errors import UsageError

PRECISIONS = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "bfloat16", "float16")}


def check_engine(device: str, precision: str) -> None:
    """Refuse a device that this machine has not, or a precision that it cannot do (UsageError)."""
    check_name(device)
    kind = "cpu"
    if device.startswith("cuda") or (device == "auto" and precision not in ("auto", *PRECISIONS["cpu"])):
        from inspectd.engine.choose import torch_device  # only torch knows the GPUs

        kind = torch_device(device).type
    if precision != "auto" and precision not in PRECISIONS[kind]:
        raise UsageError(
            f"The precision {precision!r} is not possible on the device {device!r}; expected auto or one of "
            f"{', '.join(PRECISIONS[kind])}."
        )
    if device == "cpu:openvino" and not has_openvino():
        raise UsageError(
            "The device 'cpu:openvino' needs OpenVINO, which is not installed: pip install 'inspectd[openvino]', or "
            "use device: cpu."
        )


def check_name(device: str) -> None:
    """Refuse what is no device's name (UsageError)."""
    if not re.fullmatch(DEVICE_NAMES, device):
        raise UsageError(
            f"The device {device!r} is not known; expected auto, cpu, cpu:openvino, cpu:torch, cuda or cuda:N."
        )


def has_openvino() -> bool:
    """Whether the extra `openvino` is there."""
    return importlib.util.find_spec("openvino") is not None


@cache
def has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16, so that it is faster than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return " avx512_bf16" in flags or " amx_bf16" in flags or " bf16 " in flags
