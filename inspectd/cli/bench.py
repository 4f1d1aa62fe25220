"""`inspectd bench`: what this machine does in a second, and where the time goes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from inspectd.bench.models import Kind
    from inspectd.bench.rows import Row

EMBEDDED = "tf_efficientnet_lite0"


class Size(click.ParamType):  # type: ignore[type-arg]
    """Width x height."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read `256` or `448x256`."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\d+)(?:x(\d+))?", str(value))
        if found is None or not 1 <= int(found[1]) <= 16384 or not 1 <= int(found[2] or 1) <= 16384:
            self.fail(f"{value!r} is not a size; expected one side, or width x height, such as 256 or 448x256.")
        return int(found[1]), int(found[2] or found[1])


@click.command(epilog="Example: inspectd bench --backbone wideresnet50 --size 256")
@click.option("--device", default="auto", show_default=True, help="As `engine.device` of the configuration.")
@click.option("--precision", multiple=True, help="As `engine.precision`; may be repeated.  [default: auto]")
@click.option("--backbone", multiple=True, metavar="NAME", help=f"May be repeated.  [default: {EMBEDDED}]")
@click.option("--layer", multiple=True, metavar="NAME", help="Layers of the backbone.  [default: as `calibrate`]")
@click.option("--size", type=Size(), multiple=True, help="Of the network's input; may be repeated.  [default: 256]")
@click.option("--picture", type=Size(), default="1280x720", show_default=True, help="Of the camera's pictures.")
@click.option("--batch", type=click.IntRange(1, 1024), multiple=True, help="May be repeated.  [default: 1]")
@click.option("--models", type=click.IntRange(1, 4096), multiple=True, help="On one backbone; may be repeated.")
@click.option("--seconds", type=click.FloatRange(0.01, 600), default=3, show_default=True, help="For each form.")
@click.option("--no-textbook", is_flag=True, help="Leave out the published operations in the published order.")
@click.option("--cameras", type=click.IntRange(0, 64), default=0, help="Also run a daemon with so many.")
@click.option("--fps", type=click.FloatRange(0.1, 1000), default=30, show_default=True, help="Of each of them.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of rows for machines.")
@click.option(
    "--profile",
    "trace",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a trace of the last network, too.",
)
def command(
    device: str,
    precision: tuple[str, ...],
    backbone: tuple[str, ...],
    layer: tuple[str, ...],
    size: tuple[tuple[int, int], ...],
    picture: tuple[int, int],
    batch: tuple[int, ...],
    models: tuple[int, ...],
    seconds: float,
    no_textbook: bool,
    cameras: int,
    fps: float,
    as_json: bool,
    trace: Path | None,
) -> None:
    """Measure throughput and latency per stage, with random weights and pictures.

    Forms of one network take turns within a run, so that their ratios hold on a noisy machine: the published
    operations in the published order (textbook), what the engine runs (folded), and the backbone alone.
    """
    from inspectd.bench import engine
    from inspectd.bench.models import Kind
    from inspectd.engine.choose import choose_backend, torch_device
    from inspectd.errors import UsageError

    torch_device(device)
    if trace is not None and not trace.absolute().parent.is_dir():
        raise UsageError(f"--profile {trace}: the folder {trace.absolute().parent} does not exist.")
    kinds = [
        Kind(name, layer or _usual_layers(name), *wh)
        for name in backbone or (EMBEDDED,)
        for wh in size or ((256, 256),)
    ]

    def measured() -> Iterator[Row]:
        for kind in kinds:
            for one in precision or ("auto",):
                backend = choose_backend(device, one, max_batch=max(batch, default=1))
                job = engine.Job(kind, picture, batch or (1,), models or (1,), seconds, not no_textbook)
                yield from engine.measure(backend, job)
                if trace is not None:
                    engine.trace(backend, job, trace)
                if cameras:
                    yield _daemon(kind, device, one, picture, cameras, fps, seconds)

    rows = []
    for row in measured():
        rows.append(row)
        if not as_json:
            _say(row)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
    else:
        _print(rows)


def _usual_layers(backbone: str) -> tuple[str, ...]:
    from inspectd.simplenet import backbone as backbones

    embedded = backbones.resolve(backbone) == backbones.EMBEDDED
    return backbones.EMBEDDED_LAYERS if embedded else backbones.PUBLISHED_LAYERS


def _daemon(
    kind: Kind, device: str, precision: str, picture: tuple[int, int], cameras: int, fps: float, seconds: float
) -> Row:
    from inspectd.bench import daemon

    return daemon.measure(daemon.Line(kind, device, precision, picture, cameras, fps, seconds))


def _say(row: Row) -> None:
    """Say that something was measured, while the rest takes its time."""
    what = f"{row.form}, {row.backbone} {row.size}, batch {row.batch}, {row.models} models"
    print(f"{what}: {row.frames_per_s:.1f} frames/s", file=sys.stderr)


def _print(rows: list[Row]) -> None:
    """Print a table: a column for each of the facts that differ, and the ones that are alike above it."""
    from rich.console import Console
    from rich.table import Table

    from inspectd.bench.rows import COLUMNS

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    cells = {name: [show(row) for row in rows] for name, show in COLUMNS.items()}
    alike = {name: values[0] for name, values in cells.items() if len(rows) > 1 and len(set(values)) == 1}
    table = Table(title=", ".join(f"{name} {value}" for name, value in alike.items() if value), title_justify="left")
    shown = [name for name in COLUMNS if name not in alike]
    for name in shown:
        is_text = name in ("form", "device", "backbone", "stages, ms a frame")
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    for i in range(len(rows)):
        table.add_row(*(cells[name][i] for name in shown))
    console.print(table)
    for row in rows:
        if row.overhead_p99_ms is not None:
            console.print(
                f"{row.cameras} cameras: (received − captured) − (scored − started) is {row.overhead_p99_ms:.2f} ms at "
                f"p99; {row.displaced} frames were displaced.",
                soft_wrap=True,
            )
