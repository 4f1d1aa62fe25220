"""Patterns of part ids, as a configuration writes them: `*` stands for any characters, `?` for one."""

from __future__ import annotations

import fnmatch
import re
from collections import deque
from collections.abc import Iterator
from functools import lru_cache

ANY, ONE = "*", "?"
STAND_IN = "x"
"""What stands in an example where any character may."""


def matches(pattern: str, text: str) -> bool:
    """Whether a text is one that the pattern means."""
    return _compiled(pattern).match(text) is not None


def common_text(one: str, other: str) -> str | None:
    """Return a shortest text that both patterns mean; None: there is none."""
    waiting = deque([(0, 0, "")])
    seen = set[tuple[int, int]]()
    while waiting:
        i, j, text = waiting.popleft()
        if (i, j) == (len(one), len(other)):
            return text
        if (i, j) in seen:
            continue
        seen.add((i, j))
        for in_one, in_other, letter in _steps(one[i : i + 1], other[j : j + 1]):
            put = waiting.append if letter else waiting.appendleft  # shorter texts are looked at first
            put((i + in_one, j + in_other, text + letter))
    return None


def _steps(one: str, other: str) -> Iterator[tuple[int, int, str]]:
    """Yield how far one may go in both patterns at once, and with which letter."""
    if one == ANY:
        yield 1, 0, ""
    if other == ANY:
        yield 0, 1, ""
    letters = {letter for letter in (one, other) if letter not in (ANY, ONE)}
    if one and other and len(letters) <= 1:
        yield int(one != ANY), int(other != ANY), next(iter(letters), STAND_IN)


@lru_cache(1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))
