"""Something that is done again and again beside a measurement, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Repeated:
    """Does it every so many seconds, the first time after that, from entering to leaving."""

    def __init__(self, every_s: float, do: Callable[[], None]) -> None:
        self._every_s = every_s
        self._do = do
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._do()
