"""A capture child that takes more and more memory."""

from __future__ import annotations

import numpy as np

from inspectd.cameras.growth import GROWN_BYTES, SETTLE_S, Growth, _own_bytes


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
    before = _own_bytes()
    held = np.ones(30_000_000, np.uint8)
    assert 25_000_000 < _own_bytes() - before < 60_000_000
    assert held.size
