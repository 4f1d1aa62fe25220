"""What is loaded with what: a slip of the keyboard, a client and a station do not wait for torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def run_python(code: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("inspectd", {"torch", "cv2", "zmq"}),
        ("inspectd.cameras.discovery", {"torch", "cv2", "numpy"}),
        ("inspectd.wire.messages", {"torch", "cv2", "zmq"}),
        ("inspectd.line.camera, inspectd.model.store, inspectd.wire.control, inspectd.client", {"torch", "timm"}),
    ],
)
def test_what_needs_nothing_heavy_loads_nothing_heavy(modules: str, heavy: set[str]) -> None:
    assert run_python(f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))") == "[]"


@pytest.mark.parametrize("script", ["import inspectd.cli.calibrate", "from inspectd import SimpleNet"])
def test_torchs_threads_do_not_spin_while_a_calibration_shares_the_machine(script: str) -> None:
    assert run_python(f"{script}; import os; print(os.environ['OMP_WAIT_POLICY'])") == "PASSIVE"
