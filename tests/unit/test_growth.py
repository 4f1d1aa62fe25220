"""A capture child that takes more and more memory."""

from __future__ import annotations

import subprocess
import sys

from inspectd.cameras.growth import GROWN_BYTES, SETTLE_S, Growth


def test_it_is_told_once_that_a_child_has_grown_since_its_source_was_opened() -> None:
    own = [100 << 20]
    growth = Growth(50.0, lambda: own[0])
    own[0] += 2 * GROWN_BYTES  # its buffers
    assert not growth.is_new(50.1)
    assert not growth.is_new(50 + SETTLE_S)
    own[0] += GROWN_BYTES
    assert not growth.is_new(60.0)
    own[0] += 1
    assert not growth.is_new(60.5), "it is looked at once a second"
    assert growth.is_new(61.0)
    own[0] += GROWN_BYTES
    assert not growth.is_new(62.0)


def test_what_a_process_holds_is_read_from_the_kernel() -> None:
    code = (
        "import numpy as np\n"
        "from inspectd.cameras.growth import _own_bytes\n"
        "before = _own_bytes()\n"
        "held = np.ones(300_000_000, np.uint8)\n"
        "print(_own_bytes() - before)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 280_000_000 < int(told) < 320_000_000, "in a process in which nothing else is given back meanwhile"
