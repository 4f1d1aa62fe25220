"""`inspectd calibrate --camera SOURCE`: good parts in, a run folder out."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calibrate.arguments import Sides, Variations
from calibrate.paths import run_path, slug
from calibrate.where import EVERYWHERE, Passing, Where, look_at
from inspectd.errors import UsageError

if TYPE_CHECKING:
    from calibrate.acquire.acquire import Acquired
    from calibrate.data.sizing import Sizing
    from calibrate.data.training_set import Pictures
    from calibrate.evaluation.testset import Evaluation
    from calibrate.progress import Watcher
    from calibrate.training.fit import Learned
    from calibrate.training.options import Options
    from inspectd.config import CameraConfig, Config
    from inspectd.engine.backend import Backend
    from inspectd.model.geometry import Geometry

RATE = click.FloatRange(0, 1, min_open=True, max_open=True)
FILE = click.Path(path_type=Path)


@click.command(epilog="Example: inspectd calibrate --camera 0 --run_name top")
@click.option("--camera", required=True, metavar="SOURCE", help="Index, device, URL, video, folder, or sim://line.")
@click.option("--config", "config_path", type=FILE, help="SOURCE is the name of a camera of this configuration.")
@click.option("--parts", type=click.IntRange(8), help="Pictures to take. [all of a file; else 200]")
@click.option("--interval", type=click.FloatRange(0), help="Seconds between two pictures of a live camera. [0.5]")
@click.option("--resume", is_flag=True, help="Go on with a live capture that was stopped; needs its --run_name.")
@click.option("--size", type=(click.IntRange(1), click.IntRange(1)), help="Width and height asked of a camera.")
@click.option("--format", "fourcc", metavar="FOURCC", help="Format asked of a camera, e.g. MJPG.")
@click.option(
    "--roi",
    "rois",
    type=(int, int, int, int),
    multiple=True,
    help="x y w h: inspect only this part of the picture; repeatable, for areas that share a model.",
)
@click.option(
    "--mode",
    type=click.Choice(["stream", "trigger", "part"]),
    help="part: parts pass by themselves, and are looked for in each picture. [the configuration's]",
)
@click.option("--empty", type=FILE, help="Mode part: pictures of the empty place. [found by itself]")
@click.option("--recipe", "product", metavar="NAME", help="With --config: the product that is shown.")
@click.option("--area", "areas", metavar="NAME", multiple=True, help="With --config: this area of it; repeatable.")
@click.option("--ignore", metavar="PNG", help="Of the pictures' size; what is painted (not black) is not inspected.")
@click.option("--control", help="Where a daemon that holds the camera answers. [tcp://127.0.0.1:5557]")
@click.option("--results_path", type=FILE, default=Path("results"), show_default=True)
@click.option("--log_project", default="project", show_default=True)
@click.option("--log_group", default="group", show_default=True)
@click.option("--run_name", help="Name of the run. [the camera and the time]")
@click.option("--defects", type=FILE, help="Pictures of defects: how many are missed is reported, nothing else.")
@click.option(
    "--with-marked",
    "with_marked",
    type=FILE,
    metavar="ARCHIVE/CAMERA",
    help="Learn from what people marked good there, and count what they marked bad among the defects.",
)
@click.option("--confirm", "confirmed", multiple=True, metavar="PICTURE", help="It looks odd and is good; repeatable.")
@click.option("--false_reject_rate", "rate", type=RATE, default=0.01, show_default=True)
@click.option("--confidence", type=RATE, default=0.95, show_default=True)
@click.option("-b", "--backbone_names", "backbone", help="Backbone. [tf_efficientnet_lite0, which needs no network]")
@click.option("-le", "--layers_to_extract_from", "layers", multiple=True, help="Layer to use; repeatable.")
@click.option("--backbone_weights", "weights", type=FILE, help="State dict of the backbone.")
@click.option("--pixels", type=click.IntRange(1024, 20_000_000), help="About so many in the network's input. [200000]")
@click.option("--imagesize", type=Sides(), help="Exactly this width and height of it. [the picture's shape]")
@click.option(
    "--smallest-defect",
    "smallest_defect",
    metavar="PX",
    type=click.FloatRange(1),
    help="How many pixels of the picture the smallest defect that matters is across: the input is made as large.",
)
@click.option("--white_level", type=click.IntRange(1, 65535), help="White of 16-bit pictures. [65535]")
@click.option("--noise_std", type=click.FloatRange(0, min_open=True), help="Spread of the noise that is learned from.")
@click.option("--steps", type=click.IntRange(1), help="Training steps.")
@click.option("--meta_epochs", type=click.IntRange(1), help="Asks for the published schedule.")
@click.option("--gan_epochs", type=click.IntRange(1), help="Asks for the published schedule.")
@click.option(
    "--vary",
    type=Variations(),
    multiple=True,
    help="How much the line varies, e.g. light=20 (percent), turn=5 (degrees); repeatable. [light=12 contrast=8 "
    "shift=1.2 turn=1.5 zoom=0 focus=0.9 noise=3 quality=70]",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--progress", "shown", type=click.Choice(["bars", "lines"]), default="bars", help="lines: JSON, for programs."
)
@click.option("--gpu", type=int, help="CUDA device; -1: CPU. [the first GPU if there is one]")
def command(
    camera: str,
    config_path: Path | None,
    parts: int | None,
    interval: float | None,
    resume: bool,
    rois: tuple[tuple[int, int, int, int], ...],
    product: str | None,
    areas: tuple[str, ...],
    ignore: str | None,
    pixels: int | None,
    imagesize: tuple[int, int] | None,
    smallest_defect: float | None,
    results_path: Path,
    log_project: str,
    log_group: str,
    run_name: str | None,
    defects: Path | None,
    with_marked: Path | None,
    gpu: int | None,
    shown: str,
    vary: tuple[tuple[str, float], ...],
    **more: Any,
) -> None:
    """Train a model on pictures of good parts and set its threshold.

    SOURCE is a camera index, a device path, an address (rtsp://, http://), a video file, a folder of pictures
    or sim://line. Every picture must show a good part. The run folder appears whole, or not at all.
    """
    began_s = time.monotonic()
    seen, control = _asked_for(camera, config_path, more)
    where, passing = _passing(seen, look_at(seen, product, areas, rois, ignore), more.pop("empty"))
    if resume and run_name is None:
        raise UsageError("--resume needs the --run_name of the capture that was stopped.")
    run_path(results_path, log_project, log_group, run_name or "camera")
    sizing = _sizing(pixels, imagesize, smallest_defect)
    more |= {f"vary_{name}": amount for name, amount in vary}

    # What follows loads torch: a slip of the keyboard need not wait for it.
    from calibrate.acquire.acquire import (
        acquire_pictures,
        capture_folder,
        check_names,
        expected_size,
        forget_pictures,
        plan_acquisition,
    )
    from calibrate.acquire.from_daemon import giving_way_to
    from calibrate.acquire.parts import check_are_parts
    from calibrate.data.marked import NOTHING, add_good, confirmed, find_marked
    from calibrate.evaluation import defects as known
    from calibrate.progress import watcher_of
    from calibrate.results.overview import Overview
    from calibrate.training.fit import learn, settled
    from inspectd.atomic import check_can_write
    from inspectd.engine.choose import choose_backend

    acquisition = plan_acquisition(seen, control, parts, interval, resumes=resume, passing=passing)
    name = run_name or slug(acquisition.public)
    target = run_path(results_path, log_project, log_group, run_name or f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    check_can_write(target)
    marked = find_marked(with_marked) if with_marked is not None else NOTHING
    defect_paths = [*(known.find_defects(defects) if defects is not None else ()), *marked.bad]
    backend = choose_backend("auto" if gpu is None else "cpu" if gpu < 0 else f"cuda:{gpu}")
    options = _options(where, sizing, more)
    kept = capture_folder(target)
    with watcher_of(shown) as bars:
        pictures = _room(
            options, where, backend, seen.deadline_ms, expected_size(acquisition), config_path is not None, bars
        )
        acquired = acquire_pictures(acquisition, pictures, kept, bars)
        check_are_parts((*defect_paths, *marked.good), acquired.presence)
        add_good(marked, pictures, acquired.left_out, acquired.notes)
        options = settled(options, pictures)
        where.check(pictures.size)
        check_names(options.confirmed, pictures)
        options = replace(options, confirmed=(*options.confirmed, *confirmed(marked, pictures)))
        with Overview(pictures, target) as overview, giving_way_to(control, bars.report):
            bars.report(overview.said)
            learned = learn(
                pictures,
                options,
                backend,
                run=target.name,
                camera=acquisition.record(pictures.size, acquired.settings),
                presence=acquired.presence,
                watcher=bars,
            )
            tested, bad = _tested(defect_paths, learned, options, backend, bars)
            examples = known.draw_examples(pictures, learned, backend, bad, tested)
            bars.stage("writing", 1)
            drawn = (examples, overview.sheet)
            _write(target, backend, name, options, pictures, learned, acquired, tested, drawn, bars.take_curve())
            if not learned.doubtful:  # else they are needed once more, with --confirm
                forget_pictures(kept)
            bars.step()
    lines = _summary(target, pictures, learned, acquired, tested, acquisition.is_live, time.monotonic() - began_s)
    bars.finish(str(target), lines)


def _asked_for(camera: str, config_path: Path | None, more: dict[str, Any]) -> tuple[CameraConfig, str]:
    """Return the camera that is meant, and where a daemon that holds it would answer; UsageError for slips.

    Takes out of `more` what the command line asks of the camera.
    """
    asked = {"size": more.pop("size"), "format": more.pop("fourcc"), "mode": more.pop("mode")}
    control = more.pop("control")
    from inspectd.cameras.sources import encoding_problem, parse_source
    from inspectd.config import CameraConfig

    settings = None if config_path is None else _configuration(config_path)
    seen = CameraConfig(name="calibrate", source=camera, model="") if settings is None else _named(settings, camera)
    problem = encoding_problem(parse_source(seen.source).address)
    if problem is not None:
        raise UsageError(f"--camera cannot be read as an address: {problem}.")
    return _asked(seen, **asked), control or (settings.control.bind if settings else "tcp://127.0.0.1:5557")


def _passing(seen: CameraConfig, where: Where, empty: Path | None) -> tuple[Where, Passing | None]:
    """Return what of the pictures is learned from, and where parts that pass are looked for (None: nowhere)."""
    if seen.mode == "part":  # of what is cut out around a part, all is
        return EVERYWHERE, Passing(seen.looks, where.window_of_parts(), empty)
    if empty is not None:
        raise UsageError("--empty is for parts that pass by themselves; expected --mode part too.")
    return where, None


def _sizing(pixels: int | None, imagesize: tuple[int, int] | None, smallest_defect: float | None) -> Sizing:
    """Return how the input's size is chosen; UsageError when it is asked for twice."""
    from calibrate.data.sizing import Sizing

    if sum(given is not None for given in (pixels, imagesize, smallest_defect)) > 1:
        raise UsageError("--pixels, --imagesize and --smallest-defect each decide the input's size; give one of them.")
    return Sizing(pixels, imagesize, smallest_defect)


def _options(where: Where, sizing: Sizing, more: dict[str, Any]) -> Options:
    from calibrate.training.options import options_for
    from inspectd.line.recipe import read_ignored

    roi, several = where.rois[:1], where.rois if len(where.rois) > 1 else ()
    more |= {"sizing": sizing, "roi": roi[0] if roi else None, "rois": several, "ignored": read_ignored(where.ignore)}
    return options_for(more.pop("backbone"), more.pop("layers"), **more)


def _room(
    options: Options,
    where: Where,
    backend: Backend,
    deadline_ms: float,
    expected: tuple[int, int] | None,
    is_configured: bool,
    watcher: Watcher,
) -> Pictures:
    """Return room for pictures whose size is found by those that are expected, or by the first one."""
    from calibrate.training.fit import pictures_for
    from calibrate.training.options import check_ignored
    from calibrate.training.timing import fit_deadline

    def fit_input(size: tuple[int, int]) -> Geometry:
        where.check(size)
        check_ignored(options, size)
        of_each_ms = deadline_ms / max(1, len(options.rois))
        fitted, said = fit_deadline(options, backend, size, of_each_ms, is_firm=is_configured)
        watcher.report(said)
        return fitted.geometry()

    pictures = pictures_for(options)
    pictures.sized = fit_input
    if expected is not None:
        pictures.geometry, pictures.sized = fit_input(expected), None
    return pictures


def _tested(
    paths: list[Path], learned: Learned, options: Options, backend: Backend, watcher: Watcher
) -> tuple[Evaluation | None, Pictures | None]:
    """Return what the model says of known defects, and their pictures; None: there are none."""
    from calibrate.evaluation.defects import test_defects

    if not paths:
        return None, None
    watcher.stage("defects", len(paths))
    return test_defects(paths, learned, options, backend, watcher.step)


def _configuration(path: Path) -> Config:
    from inspectd import config_file

    return config_file.load(path)


def _named(settings: Config, name: str) -> Any:
    """Return a configured camera by its name."""

    for camera in settings.cameras:
        if camera.name == name:
            return camera
    names = ", ".join(camera.name for camera in settings.cameras)
    raise UsageError(f"--camera is {name!r}; with --config expected the name of one of its cameras: {names}.")


def _asked(camera: Any, **asked: Any) -> Any:
    """Return a camera's settings with what the command line asks for in their place."""
    import msgspec

    return msgspec.structs.replace(camera, **{key: value for key, value in asked.items() if value is not None})


def _write(
    target: Path,
    backend: Backend,
    name: str,
    options: Any,
    pictures: Pictures,
    learned: Learned,
    acquired: Acquired,
    tested: Evaluation | None,
    drawn: tuple[list[Any], Any],
    curve: Any,
) -> None:
    from calibrate.results.report import ModelReport, render_model, render_report
    from calibrate.results.run_folder import Row, new_run

    threshold = learned.threshold.value if learned.threshold else None
    with new_run(target, backend) as folder:
        folder.add(name, Row(name, options.backbone, learned.kept, threshold, tested), pictures, learned, curve)
        told = ModelReport(
            name,
            options,
            pictures,
            learned,
            curve,
            acquired.left_out,
            acquired.notes,
            evaluation=tested,
            examples=drawn[0],
            overview=drawn[1],
            parts=acquired.sheet,
        )
        folder.finish(render_report(f"Calibration of {name}", [render_model(told)]))


def _summary(
    target: Path,
    pictures: Pictures,
    learned: Learned,
    acquired: Acquired,
    tested: Evaluation | None,
    is_live: bool,
    took_s: float,
) -> list[str]:
    from calibrate.results.sentences import doubtful, equipment, guarantee, measured

    unlike = sorted(learned.cleaning.unlike) if learned.cleaning else []
    held_out = len(learned.held_out)
    how = "each learned from and held out once" if held_out == len(pictures) else f"{held_out} of them held out"
    what = f"areas of {len(pictures.taken)} pictures" if pictures.rois else "pictures"
    lines = [
        f"Calibrated in {took_s:.0f} s from {len(pictures)} {what}, {how}; {len(acquired.left_out)} unreadable and "
        "left out.",
        *(f"  left out: {why}" for why in acquired.left_out),
        *acquired.notes,
    ]
    if unlike:
        names = ", ".join(pictures.names[i] for i in unlike)
        lines.append(f"Left out of the training, because they look unlike the rest (see the report): {names}.")
    if learned.threshold is not None:
        value = learned.threshold.value
        lines.append(measured(learned))
        if tested is not None:
            count = sum(tested.is_defective)
            lines.append(f"At this threshold {tested.missed(value)} of {count} known defects are missed.")
    doubt = doubtful(learned, pictures.names, "--resume " if is_live else "")
    changes = equipment(learned)
    return [
        *lines,
        guarantee(learned),
        *(said for said in (doubt, changes) if said),
        f"Model:  {target / 'models' / '0'}",
        f"Report: {target / 'report.html'}",
        f"Next: look at the report; `inspectd install {target} NAME` puts the model where the daemon looks; then name "
        "it in the configuration (cameras: - model: …), `inspectd check` and `inspectd run`.",
    ]
