"""`inspectd calibrate --camera SOURCE`: good parts in, a run folder out."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calibrate.paths import run_path, slug
from inspectd.errors import UsageError

if TYPE_CHECKING:
    from calibrate.fit import Learned
    from calibrate.pictures import Pictures
    from inspectd.cameras.sources import Source

LIVE_PARTS = 200
LIVE_INTERVAL_S = 0.5


@click.command(epilog="Example: inspectd calibrate --camera 0 --run_name top")
@click.option("--camera", required=True, metavar="SOURCE", help="Index, device, URL, video, folder, or sim://line.")
@click.option("--parts", type=click.IntRange(8), help="Pictures to take. [all of a file; else 200]")
@click.option("--interval", type=click.FloatRange(0), help="Seconds between two pictures of a live camera. [0.5]")
@click.option("--size", type=(click.IntRange(1), click.IntRange(1)), help="Width and height asked of a camera.")
@click.option("--format", "fourcc", metavar="FOURCC", help="Format asked of a camera, e.g. MJPG.")
@click.option("--roi", type=(int, int, int, int), help="x y w h: inspect only this part of the picture.")
@click.option("--results_path", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@click.option("--log_project", default="project", show_default=True)
@click.option("--log_group", default="group", show_default=True)
@click.option("--run_name", help="Name of the run. [the camera and the time]")
@click.option("--false_reject_rate", "rate", type=click.FloatRange(0, 1, True, True), default=0.01, show_default=True)
@click.option("--confidence", type=click.FloatRange(0, 1, True, True), default=0.95, show_default=True)
@click.option("-b", "--backbone_names", "backbone", help="Backbone. [tf_efficientnet_lite0, which needs no network]")
@click.option("-le", "--layers_to_extract_from", "layers", multiple=True, help="Layer to use; repeatable.")
@click.option("--backbone_weights", "weights", type=click.Path(path_type=Path), help="State dict of the backbone.")
@click.option("--imagesize", type=click.IntRange(32, 4096), help="Side of the network's square input. [288]")
@click.option("--white_level", type=click.IntRange(1, 65535), help="White of 16-bit pictures. [65535]")
@click.option("--noise_std", type=click.FloatRange(0, min_open=True), help="Spread of the noise that is learned from.")
@click.option("--meta_epochs", type=click.IntRange(1), help="Published schedule (not the embedded backbone's).")
@click.option("--gan_epochs", type=click.IntRange(1), help="Published schedule (not the embedded backbone's).")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--gpu", type=int, help="CUDA device; -1: CPU. [the first GPU if there is one]")
def command(
    camera: str,
    parts: int | None,
    interval: float | None,
    size: tuple[int, int] | None,
    fourcc: str | None,
    roi: tuple[int, int, int, int] | None,
    results_path: Path,
    log_project: str,
    log_group: str,
    run_name: str | None,
    gpu: int | None,
    **network: Any,
) -> None:
    """Train a model on pictures of good parts and set its threshold.

    SOURCE is a camera index, a device path, an address (rtsp://, http://), a video file, a folder of pictures
    or sim://line. Every picture must show a good part. The run folder appears whole, or not at all.
    """
    from calibrate.fit import learn
    from calibrate.folder import Row, new_run
    from calibrate.options import options_for
    from calibrate.progress import ProgressBars
    from calibrate.report import ModelReport, render_model, render_report
    from calibrate.threshold import held_out_positions
    from inspectd.cameras.discovery import stable_path
    from inspectd.cameras.sources import parse_source
    from inspectd.engine.torch_backend import TorchBackend
    from inspectd.simplenet.bundle import CameraRecord

    began_s = time.monotonic()
    source = parse_source(camera)
    run = run_name or f"{slug(camera)}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    target = run_path(results_path, log_project, log_group, run)
    side = network.pop("imagesize")
    backend = TorchBackend("auto" if gpu is None else "cpu" if gpu < 0 else f"cuda:{gpu}")
    options = options_for(network.pop("backbone"), network.pop("layers"), height=side, width=side, roi=roi, **network)
    with ProgressBars() as bars:
        pictures, left_out = _capture(source, options, bars, parts, interval, size, fourcc)
        _check_roi(roi, pictures.size)
        identity = stable_path(source.address) if source.is_device else None
        record = CameraRecord(camera, identity, *pictures.size, fourcc)
        held_out = held_out_positions(len(pictures))
        learned = learn(pictures, held_out, options, backend, run=run, camera=record, watcher=bars)
        bars.stage("writing", 1)
        name = run_name or slug(camera)
        curve = bars.take_curve()
        with new_run(target) as folder:
            threshold = learned.threshold.value if learned.threshold else None
            folder.add(name, Row(name, options.backbone, learned.kept, threshold, None), pictures, learned, curve)
            told = ModelReport(name, options, pictures, learned, curve, left_out)
            folder.finish(render_report(f"Calibration of {name}", [render_model(told)]))
        bars.step()
    for line in _summary(target, pictures, learned, left_out, time.monotonic() - began_s):
        click.echo(line)


def _capture(
    source: Source,
    options: Any,
    bars: Any,
    parts: int | None,
    interval: float | None,
    size: tuple[int, int] | None,
    fourcc: str | None,
) -> tuple[Pictures, list[str]]:
    """Take the pictures; UsageError when too many cannot be read."""
    from calibrate.capture import SLOTS, Capture, Unreadable
    from calibrate.fit import pictures_for
    from calibrate.pictures import check_enough
    from inspectd.cameras.link import CaptureSettings

    wanted = parts or (None if source.is_finite else LIVE_PARTS)
    pause_s = interval if interval is not None else 0.0 if source.is_lossless else LIVE_INTERVAL_S
    settings = CaptureSettings(source.address, source.kind.value, SLOTS, size=size, format=fourcc)
    pictures, left_out, next_s = pictures_for(options), [], 0.0
    bars.stage("pictures", wanted)
    with Capture(source, settings, bars.say) as capture:
        for item in capture:
            if isinstance(item, Unreadable):
                left_out.append(f"{item.name}: {item.why}")
                continue
            try:
                if time.monotonic() >= next_s:
                    next_s = time.monotonic() + pause_s
                    pictures.add(item.picture, item.stamp.part or f"frame {item.stamp.frame}")
                    bars.step()
            finally:
                item.release()
            if len(pictures) == wanted:
                break
    check_enough(len(pictures), left_out, source.address)
    return pictures, left_out


def _check_roi(roi: tuple[int, int, int, int] | None, size: tuple[int, int]) -> None:
    width, height = size
    if roi is not None and not (0 <= roi[0] < roi[0] + roi[2] <= width and 0 <= roi[1] < roi[1] + roi[3] <= height):
        raise UsageError(f"--roi is {list(roi)}; expected x y w h inside the picture of {width}x{height}.")


def _summary(target: Path, pictures: Pictures, learned: Learned, left_out: list[str], took_s: float) -> list[str]:
    from calibrate.report import guarantee, unconfirmed
    from inspectd.judge import exceeds

    held_out = len(learned.held_out)
    unlike = sorted(learned.cleaning.unlike) if learned.cleaning else []
    lines = [
        f"Calibrated in {took_s:.0f} s from {len(pictures)} pictures: {len(pictures) - held_out - len(unlike)} learned "
        f"from, {held_out} held out, {len(left_out)} unreadable and left out.",
        *(f"  left out: {why}" for why in left_out),
    ]
    if unlike:
        names = ", ".join(pictures.names[i] for i in unlike)
        lines.append(f"Left out of the training, because they look unlike the rest (see the report): {names}.")
    if learned.threshold is not None:
        value = learned.threshold.value
        above = sum(exceeds(score, value) for score in learned.scores)
        lines.append(f"Threshold {value:.4g}: of the {held_out} held-out good parts {above} score above it.")
    doubt = unconfirmed(learned, pictures.names)
    return [
        *lines,
        guarantee(learned.threshold, held_out),
        *([doubt] if doubt else []),
        f"Model:  {target / 'models' / '0'}",
        f"Report: {target / 'report.html'}",
        "Next: `inspectd install` puts the model where the daemon looks; then name it in the configuration "
        "(cameras: - model: …), `inspectd check` and `inspectd run`.",
    ]
