"""inspectd: a camera inspection daemon that a factory can trust.

The map, from the top (imports point down only; CI checks it):

    cli            thin commands
    daemon         life: startup, tick, shutdown
    pipeline       builds the stages from the configuration and joins them: read this first
    predictor      SimpleNet, for people who want a Python object
    status, metrics, wire.publisher    what the world is told
    cameras, engine                    where pictures come from, and what scores them
    ledger         exactly one verdict
    judge          scores to verdict and regions
    simplenet      the network and its preprocess: torch
    model          a calibrated model as data: its folder, records, geometry, fingerprints; never torch
    fitness        whether a picture may be judged at all; intake: what happens with all that a camera says
    wire.messages, sim, config, records, strict_yaml, atomic, secrets, reading, errors, version

`SimpleNet` is imported when it is asked for: this package itself loads nothing heavy.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from inspectd.version import VERSION

if TYPE_CHECKING:
    from inspectd.predictor import SimpleNet

__version__ = VERSION
__all__ = ["SimpleNet", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "SimpleNet":
        # Before torch is loaded: its threads wait for each other by spinning, and on a busy machine nothing ends.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from inspectd.predictor import SimpleNet

        return SimpleNet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
