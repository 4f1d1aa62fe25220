"""`inspectd calibrate`: two forms of one command. With `--camera` good parts are taken from a camera, folder or
video; otherwise it is the published SimpleNet command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from calibrate import camera, published
from calibrate.paths import run_path

CAMERA = "--camera"


class _TwoForms(click.Group):
    """The published chain of parts, which hands a line with `--camera` over to the other form."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the line in the form that it has."""
        args = sides_joined(args)
        parts = [i for i, arg in enumerate(args) if arg in self.commands]
        if parts and set(args[parts[-1] :]) & {"--help", "-h"}:
            args = [args[parts[-1]], "--help"]  # in a chain of parts click would take it for a value
        if any(arg == CAMERA or arg.startswith(f"{CAMERA}=") for arg in args):
            return camera.command.make_context(info_name, args, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show both forms."""
        formatter.write_usage(ctx.command_path, "--camera SOURCE [OPTIONS]")
        formatter.write_usage(ctx.command_path, "[OPTIONS] net [OPTIONS] dataset [OPTIONS] mvtec DATA_PATH", "   or: ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options of both forms."""
        for title, command in (("Options with --camera SOURCE", camera.command), ("Options before net", self)):
            records = (param.get_help_record(ctx) for param in command.get_params(ctx))
            with formatter.section(title):
                formatter.write_dl([record for record in records if record is not None])
        self.format_commands(ctx, formatter)


def sides_joined(args: list[str]) -> list[str]:
    """Write `--imagesize 448 256` as `--imagesize 448x256`: an option of click takes always as many values."""
    for i in range(len(args) - 2):
        if args[i] == "--imagesize" and args[i + 1].isdecimal() and args[i + 2].isdecimal():
            return [*args[: i + 1], f"{args[i + 1]}x{args[i + 2]}", *args[i + 3 :]]
    return args


@click.group(
    cls=_TwoForms,
    chain=True,
    invoke_without_command=True,
    epilog="Example: inspectd calibrate --camera 0 --run_name top\n\n"
    "Example: inspectd calibrate --run_name run net -b tf_efficientnet_lite0 -le blocks.2 -le blocks.4 dataset "
    "-d bottle mvtec /data/mvtec\n\n`inspectd calibrate net --help` and `dataset --help` list their options.",
)
@click.option("--results_path", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@click.option("--gpu", type=int, multiple=True, help="CUDA device; -1: CPU. [the first GPU if there is one]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--log_group", default="group", show_default=True)
@click.option("--log_project", default="project", show_default=True)
@click.option("--run_name", default="test", show_default=True)
@click.option("--test", is_flag=True, help="Test the models of a saved run again.")
@click.option("--save_segmentation_images", is_flag=True, help="Draw every test picture: truth, map, verdict.")
@click.option(
    "--keep",
    type=click.Choice(["last", "best-on-test"]),
    default="last",
    show_default=True,
    help="Which checkpoint; best-on-test peeks, as the paper does.",
)
@click.option("--false_reject_rate", "rate", type=click.FloatRange(0, 1, True, True), default=0.01, show_default=True)
@click.option("--confidence", type=click.FloatRange(0, 1, True, True), default=0.95, show_default=True)
def command(**_: Any) -> None:
    """Train models on pictures of good parts.

    `--camera SOURCE` takes them from a camera, an address, a video, a folder or sim://line. Otherwise the
    published SimpleNet command line is expected: options, then net with its options, then dataset with its
    options, then mvtec DATA_PATH.
    """


command.add_command(published.net)
command.add_command(published.dataset)


@command.result_callback()
def _run(
    parts: list[Any],
    results_path: Path,
    log_project: str,
    log_group: str,
    run_name: str,
    gpu: tuple[int, ...],
    **main: Any,
) -> None:
    published.run(parts, run_path(results_path, log_project, log_group, run_name), gpu, **main)
