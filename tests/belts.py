"""A small simulated belt, and what is learned of its parts: shared by tests of parts that pass freely."""

from __future__ import annotations

from functools import cache

from calibrate.acquire.presence import learn_presence
from inspectd.model.presence import Presence, shrink, step_of
from inspectd.sim.belt import Belt

SIZE = (160, 120)
WINDOW = (0, 0, *SIZE)
FPS = 30
START_S = 1000.0


def belt(seed: int, **how: float) -> Belt:
    """A belt before a small camera."""
    return Belt(seed, width=SIZE[0], height=SIZE[1], **how)  # type: ignore[arg-type]


@cache
def known() -> Presence:
    """What a part is, learned from a minute of a belt that stops and runs back."""
    one = belt(3)
    watched = [shrink(one.render(50 + i / FPS), WINDOW, step_of(WINDOW)) for i in range(60 * FPS)]
    return learn_presence(watched, SIZE, WINDOW, step_of(WINDOW)).presence
