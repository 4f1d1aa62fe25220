"""`inspectd calibrate --camera SOURCE`: good parts in, a run folder out."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inspectd.errors import UsageError

if TYPE_CHECKING:
    from calibrate.fit import Learned, Pictures
    from inspectd.cameras.sources import Source

LIVE_PARTS = 200
LIVE_INTERVAL_S = 0.5
MOST_UNREADABLE = 0.05


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
    from calibrate.fit import learn, options_for
    from calibrate.folder import write_run
    from calibrate.progress import ProgressBars
    from inspectd.cameras.discovery import stable_path
    from inspectd.cameras.sources import parse_source
    from inspectd.engine.torch_backend import TorchBackend
    from inspectd.simplenet.bundle import CameraRecord

    began_s = time.monotonic()
    source = parse_source(camera)
    run = run_name or f"{_slug(camera)}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    target = _target(results_path, log_project, log_group, run)
    side = network.pop("imagesize")
    backend = TorchBackend("auto" if gpu is None else "cpu" if gpu < 0 else f"cuda:{gpu}")
    options = options_for(network.pop("backbone"), network.pop("layers"), height=side, width=side, roi=roi, **network)
    with ProgressBars() as bars:
        pictures, left_out = _capture(source, options, bars, parts, interval, size, fourcc)
        _check_roi(roi, pictures)
        identity = stable_path(source.address) if source.is_device else None
        record = CameraRecord(camera, identity, *pictures.size)
        learned = learn(pictures, backend, run=run, camera=record, watcher=bars)
        bars.stage("writing", 1)
        write_run(target, run_name or _slug(camera), pictures, learned, bars.curve, left_out)
        bars.step()
    for line in _summary(target, pictures, learned, left_out, time.monotonic() - began_s):
        click.echo(line)


def _target(results_path: Path, project: str, group: str, run: str) -> Path:
    for what, name in (("--log_project", project), ("--log_group", group), ("--run_name", run)):
        if not name or name in (".", "..") or "/" in name or "\0" in name:
            raise UsageError(f"{what} is {name!r}; expected a plain name for a folder.")
    return results_path / project / group / run


def _slug(camera: str) -> str:
    """Return a short name for a source, fit for a folder."""
    tail = camera.split("?", maxsplit=1)[0].rstrip("/").rpartition("/")[2] or camera
    text = re.sub(r"[^A-Za-z0-9_.-]+", "-", tail).strip("-.")
    return f"camera{text}" if text.isdecimal() else text or "camera"


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
    from calibrate.fit import Pictures
    from inspectd.cameras.link import CaptureSettings

    wanted = parts or (None if source.is_finite else LIVE_PARTS)
    pause_s = interval if interval is not None else 0.0 if source.is_lossless else LIVE_INTERVAL_S
    settings = CaptureSettings(source.address, source.kind.value, SLOTS, size=size, format=fourcc)
    pictures, left_out, next_s = Pictures(options), [], 0.0
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
            if len(pictures.inputs) == wanted:
                break
    total = len(pictures.inputs) + len(left_out)
    if len(left_out) > MOST_UNREADABLE * total:
        raise UsageError(
            f"{len(left_out)} of {total} pictures of {source.address} cannot be read, more than "
            f"{MOST_UNREADABLE:.0%}; the first is {left_out[0]} Nothing was changed."
        )
    return pictures, left_out


def _check_roi(roi: tuple[int, int, int, int] | None, pictures: Pictures) -> None:
    width, height = pictures.size
    if roi is not None and not (0 <= roi[0] < roi[0] + roi[2] <= width and 0 <= roi[1] < roi[1] + roi[3] <= height):
        raise UsageError(f"--roi is {list(roi)}; expected x y w h inside the picture of {width}x{height}.")


def _summary(target: Path, pictures: Pictures, learned: Learned, left_out: list[str], took_s: float) -> list[str]:
    from calibrate.report import guarantee

    threshold, held_out = learned.threshold, len(learned.held_out)
    above = sum(score > threshold.value for score in learned.scores)
    return [
        f"Calibrated in {took_s:.0f} s from {len(pictures.inputs)} pictures: {len(pictures.inputs) - held_out} learned "
        f"from, {held_out} held out, {len(left_out)} unreadable and left out.",
        *(f"  left out: {why}" for why in left_out),
        f"Threshold {threshold.value:.4g}: of the {held_out} held-out good parts {above} score above it.",
        guarantee(threshold, held_out),
        f"Model:  {target / 'models' / '0'}",
        f"Report: {target / 'report.html'}",
        "Next: name the model in the configuration (cameras: - model: …), then `inspectd check` and `inspectd run`.",
    ]
