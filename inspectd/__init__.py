"""inspectd: a camera inspection daemon that a factory can trust.

The map of the packages, their layers and the decisions behind them are in README.md beside this file; the file to read
first is `inspectd/daemon/pipeline.py`. `SimpleNet` is imported when it is asked for: this package itself loads nothing
heavy.
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
