"""What a capture child says of a camera, picture by picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from numbered import look

from inspectd.cameras.child import Child
from inspectd.cameras.protocol import Captured, CaptureSettings, Failed, Message, Unreadable
from inspectd.records import Stamp


class Seen:
    """What a capture child said of one address, and the numbers that its pictures spell."""

    def __init__(self, address: str, enough: Callable[[Seen], bool], patience_s: float = 20.0, **more: Any) -> None:
        self.messages: list[Message] = []
        self.captured: list[Captured] = []
        self.numbers: list[int] = []
        self.wrong: list[int] = []
        self.ages_ms: list[float] = []
        self.first_s = 0.0
        began_s = time.monotonic()
        child = Child(CaptureSettings(source=address, kind="url", slots=4, **more))
        try:
            while not enough(self) and not isinstance(self.last, Failed):
                assert time.monotonic() - began_s < patience_s, f"it did not happen: {self.messages[-5:]}"
                message = child.receive(0.2)
                if message is None:
                    continue
                self.messages.append(message)
                if isinstance(message, Captured):
                    self.first_s = self.first_s or time.monotonic() - began_s
                    self._look(child, message)
        finally:
            child.kill()

    @property
    def last(self) -> Message | None:
        return self.messages[-1] if self.messages else None

    def count(self, kind: type) -> int:
        return sum(isinstance(message, kind) for message in self.messages)

    @property
    def reasons(self) -> list[str]:
        return [message.why for message in self.messages if isinstance(message, Unreadable | Failed)]

    def _look(self, child: Child, message: Captured) -> None:
        frame = child.frame(message, Stamp("top", message.number, message.captured_ns))
        number, wrong_cells = look(frame.picture)
        self.ages_ms.append((time.monotonic_ns() - message.captured_ns) / 1e6)
        self.captured.append(message)
        self.numbers.append(number)
        if wrong_cells:
            self.wrong.append(number)
        frame.release()
