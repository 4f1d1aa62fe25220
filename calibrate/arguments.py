"""Types of the command line's values."""

from __future__ import annotations

from typing import Any

import click


class Sides(click.ParamType[tuple[int, int]]):
    """Width and height: `448x256`, or one number for both. `448 256` is joined to that before (`cli.py`)."""

    name = "W H"
    LEAST, MOST = 32, 8192

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read one."""
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(part.isdecimal() and self.LEAST <= int(part) <= self.MOST for part in parts):
            self.fail(
                f"{value!r} is no size; expected width and height of the network's input, {self.LEAST} to {self.MOST} "
                "each, as in 448 256.",
                param,
                ctx,
            )
        return int(parts[0]), int(parts[-1])


class Variations(click.ParamType[tuple[str, float]]):
    """`light=20`: in what a line varies, and how much."""

    name = "KIND=AMOUNT"
    PERCENT = frozenset({"light", "contrast", "shift", "zoom"})

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Read one; percents become shares."""
        from calibrate.data.painting import ALLOWED

        kind, _, amount = str(value).partition("=")
        if kind not in ALLOWED:
            kinds = ", ".join(ALLOWED)
            self.fail(f"{value!r} names nothing that varies; expected KIND=NUMBER, KIND one of {kinds}.", param, ctx)
        scale = 100 if kind in self.PERCENT else 1
        least, most = ALLOWED[kind]
        try:
            number = float(amount) / scale
        except ValueError:
            number = float("nan")
        if not least <= number <= most:
            unit = " percent" if scale == 100 else ""
            self.fail(f"{value!r} cannot be; expected {scale * least:g} to {scale * most:g}{unit}.", param, ctx)
        return kind, round(number) if kind == "quality" else number
