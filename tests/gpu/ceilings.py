"""What this GPU can do at best: the numbers that `inspectd bench` must be read against.

python tests/gpu/ceilings.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

FRAME = (1080, 1920, 3)
RUNS = 30


def seconds(work: Callable[[], object]) -> float:
    """Return the shortest time of one run."""
    work()
    best = float("inf")
    for _ in range(RUNS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best


def main() -> None:
    """Print the rate of matrix products and of uploads."""
    print(torch.cuda.get_device_name())
    for dtype in (torch.float16, torch.bfloat16):
        a = torch.randn(8192, 8192, device="cuda", dtype=dtype)
        print(f"{dtype} matrix product: {2 * 8192**3 / seconds(lambda a=a: a @ a) / 1e12:.0f} TFLOPS")
    size = 32 * FRAME[0] * FRAME[1] * FRAME[2]
    device = torch.empty(size, dtype=torch.uint8, device="cuda")
    for name, host in (
        ("page-locked", torch.empty(size, dtype=torch.uint8, pin_memory=True)),
        ("pageable", torch.empty(size, dtype=torch.uint8)),
    ):
        rate = size / seconds(lambda host=host: device.copy_(host, non_blocking=True))
        print(f"upload from {name} memory: {rate / 1e9:.1f} GB/s, {rate * 32 / size:.0f} frames/s of 1920x1080")


if __name__ == "__main__":
    main()
