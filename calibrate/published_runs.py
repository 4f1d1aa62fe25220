"""Runs over a dataset: every class with every backbone is trained, tested and written, or tested again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from calibrate.data.dataset import ClassFolder, add_files, find_class
from calibrate.data.training_set import Pictures, check_enough
from calibrate.evaluation.best_on_test import BestOnTest
from calibrate.evaluation.figures import segmentation_figure
from calibrate.evaluation.testset import Evaluation, Tested, evaluate
from calibrate.progress import ProgressBars
from calibrate.results.report import ModelReport, render_model, render_report
from calibrate.results.run_folder import PICTURES, Row, new_run, write_png, write_results
from calibrate.training.by_epochs import Keeper
from calibrate.training.fit import Learned, learn, pictures_for
from calibrate.training.options import Options
from inspectd.atomic import new_folder
from inspectd.engine.backend import Backend
from inspectd.engine.choose import choose_backend
from inspectd.errors import StartError, UsageError
from inspectd.model.calibration import CameraRecord
from inspectd.simplenet import backbone as backbones
from inspectd.simplenet import bundle
from inspectd.simplenet.bundle import Bundle

EXAMPLES = 6
"""Test pictures with their maps in the report."""
AS_SAVED = "as saved"
"""What is kept of a model that does not say."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run consists of: each class with each of the settings, classes outermost."""

    target: Path
    dataset: str
    path: Path
    classes: tuple[str, ...]
    options: Sequence[Options]
    train_val_split: float
    workers: int

    def folders(self) -> list[ClassFolder]:
        """Look all classes up before anything is trained."""
        return [find_class(self.path, name) for name in dict.fromkeys(self.classes)]

    def row_name(self, folder: ClassFolder) -> str:
        """Return what the published code calls a class."""
        return f"{self.dataset}_{folder.name}"


def train_run(plan: Plan, device: str, *, keep: str, draws: bool) -> None:
    """Train, test and write all models of the plan; the run folder appears whole, or not at all."""
    backend = choose_backend(device)
    folders = plan.folders()
    told: list[str] = []
    rows: list[Row] = []
    with ProgressBars() as bars:
        for options in plan.options:  # a wrong layer or missing weights should not wait for its turn
            backbones.pretrained(options.backbone, options.layers, options.params.input_shape, options.weights)
        with new_run(plan.target, backend) as run:
            for folder in folders:
                for options in plan.options:
                    number = len(rows)
                    bars.report(f"Model {number}: {plan.row_name(folder)}, {options.title}")
                    pictures, learned, left_out, notes = _learn(plan, folder, options, backend, keep, bars)
                    drawing = _Drawing(learned.model, run.pictures_folder(number) if draws else None, bars.step)
                    bars.stage("test", len(folder.test))
                    tested = evaluate(folder, learned.model, backend, workers=plan.workers, on_picture=drawing)
                    _report_left_out(bars, tested.left_out)
                    threshold = learned.threshold.value if learned.threshold else None
                    row = Row(plan.row_name(folder), options.title, learned.kept, threshold, tested)
                    for name, value in (
                        ("i-auroc", tested.metrics.image_auroc),
                        ("p-auroc", tested.metrics.pixel_auroc),
                    ):
                        if value is not None and learned.kept == "last":
                            bars.scalar(name, value, options.schedule.epochs[0])
                    curve = bars.take_curve()
                    run.add(folder.name, row, pictures, learned, curve)
                    backend.forget(learned.model)
                    rows.append(row)
                    title = f"{row.name} ({options.title})"
                    examples = [drawing.figure(example) for example in drawing.examples]
                    told.append(
                        render_model(
                            ModelReport(
                                title,
                                options,
                                pictures,
                                learned,
                                curve,
                                [*left_out, *tested.left_out],
                                notes,
                                evaluation=tested,
                                examples=examples,
                            )
                        )
                    )
            summary = [(row.name, row.evaluation.metrics) for row in rows if row.evaluation]
            run.finish(render_report(f"Run {plan.target.name}", told, summary))
    _say_results(rows, plan.target)


def test_run(plan: Plan, device: str, *, draws: bool) -> None:
    """Test the models of a saved run again: results.csv and the drawn pictures are replaced, nothing else."""
    backend = choose_backend(device)
    folders = {folder.name: folder for folder in plan.folders()}
    wanted = [options.title for options in plan.options]
    rows: list[Row] = []
    with ProgressBars() as bars:
        for number, name, backbone in _saved(plan.target, list(folders), wanted):
            model = bundle.load(plan.target / "models" / str(number))
            backend.prepare(model)
            bars.stage(f"test {number}", len(folders[name].test))
            with _pictures_folder(plan.target, number, draws) as pictures:
                drawing = _Drawing(model, pictures, bars.step)
                tested = evaluate(folders[name], model, backend, workers=plan.workers, on_picture=drawing)
            _report_left_out(bars, tested.left_out)
            backend.forget(model)
            threshold = model.calibration.threshold if model.calibration else None
            value = threshold.value if threshold else None
            kept = str(model.calibration.recipe.get("kept", AS_SAVED)) if model.calibration else AS_SAVED
            rows.append(Row(plan.row_name(folders[name]), backbone, kept, value, tested))
    _replace_results(plan.target / "results.csv", rows)
    _say_results(rows, plan.target)


test_run.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest thinks of its name


def _learn(
    plan: Plan, folder: ClassFolder, options: Options, backend: Backend, keep: str, bars: ProgressBars
) -> tuple[Pictures, Learned, list[str], list[str]]:
    """Read a class's training pictures and train on them."""
    pictures = pictures_for(options)
    for note in folder.notes:
        bars.report(note)
    bars.stage("pictures", len(folder.train))
    learned_from, held_out = folder.split(plan.train_val_split)
    left_out = add_files(pictures, learned_from, plan.workers, bars.step)
    first_held = len(pictures)
    left_out += add_files(pictures, held_out, plan.workers, bars.step)
    check_enough(len(pictures), left_out, str(plan.path / folder.name / "train"))
    if first_held == 0:
        raise UsageError(
            f"train_val_split {plan.train_val_split:g} leaves none of the {len(pictures)} pictures of {folder.name} to "
            "learn from; expected a larger share."
        )
    _report_left_out(bars, left_out)
    copies = copies_note(pictures, first_held)
    notes = [*folder.notes, *([copies] if copies else [])]
    if copies:
        bars.report(copies)
    options = dataclasses.replace(options, cache_folder=_existing(plan.target))
    keeper: Keeper | None = None
    if keep == "best-on-test":
        keeper = BestOnTest(folder, options, plan.workers, bars.scalar)
    source = str(plan.path / folder.name / "train" / "good")
    learned = learn(
        pictures,
        options,
        backend,
        run=f"{plan.target.name}-{folder.name}",
        camera=CameraRecord(source, None, *pictures.size),
        held_out=range(first_held, len(pictures)),
        keeper=keeper,
        watcher=bars,
    )
    return pictures, learned, left_out, notes


def copies_note(pictures: Pictures, first_held: int) -> str | None:
    """Say which held-out pictures are exact copies of ones that were learned from: they prove nothing."""
    copies = [(name, of) for i, (name, of) in pictures.copies.items() if i >= first_held and of]
    if not copies:
        return None
    named = ", ".join(f"{name} (as {of})" for name, of in copies[:3])
    return (
        f"{len(copies)} held-out pictures are exact copies of others: {named}; they make the threshold look better "
        "proven than it is. Remove them."
    )


def _report_left_out(bars: ProgressBars, left_out: Sequence[str]) -> None:
    for why in left_out:
        bars.report(f"left out: {why}")


class _Drawing:
    """Sees each tested picture: draws it where asked for, and keeps a few for the report."""

    def __init__(self, model: Bundle, folder: Path | None, on_picture: Callable[[], None]) -> None:
        threshold = model.calibration.threshold if model.calibration else None
        self._threshold = threshold.value if threshold else None
        self._folder = folder
        self._on_picture = on_picture
        self.examples: list[Tested] = []

    def __call__(self, tested: Tested) -> None:
        kinds = [example.test.kind for example in self.examples]
        if len(self.examples) < EXAMPLES and kinds.count(tested.test.kind) < max(1, EXAMPLES // 4):
            self.examples.append(tested)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_png(
                self._folder / f"{tested.test.kind}_{tested.test.stem.replace('/', '_')}.png", self.figure(tested)
            )
        self._on_picture()

    def figure(self, tested: Tested):  # type: ignore[no-untyped-def]
        """Draw picture, truth, map and verdict side by side."""
        return segmentation_figure(
            tested.picture,
            tested.truth,
            tested.map_,
            score=tested.score,
            threshold=self._threshold,
            title=tested.test.name,
        )


def _existing(path: Path) -> Path:
    """Return the nearest folder above `path` that exists."""
    return next(parent for parent in path.absolute().parents if parent.is_dir())


# A saved run


def _saved(run: Path, classes: Sequence[str], wanted: Sequence[str]) -> list[tuple[int, str, str]]:
    """Return number, class and backbone of the saved models that are asked for."""
    path = run / "models" / "index.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        models = [(int(entry["i"]), str(entry["class"]), str(entry["backbone"])) for entry in index]
    except FileNotFoundError:
        raise UsageError(f"There is no run {run} to test: {path} is missing. Train it first, without --test.") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is damaged; expected a list of models with i, class and backbone.") from None
    chosen = [model for model in models if model[1] in classes and model[2] in wanted]
    if not chosen:
        there = ", ".join(f"{name} with {backbone}" for _, name, backbone in models)
        raise UsageError(
            f"The run {run} has no model of {', '.join(classes)} with {', '.join(wanted)}; it has {there}."
        )
    return chosen


class _NoFolder:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _pictures_folder(run: Path, number: int, draws: bool):  # type: ignore[no-untyped-def]
    return new_folder(run / PICTURES / str(number)) if draws else _NoFolder()


def _replace_results(path: Path, rows: Sequence[Row]) -> None:
    scratch = path.with_name(f".{path.name}.partial")
    try:
        write_results(scratch, rows)
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise StartError(f"{path} cannot be written: {error.strerror}. It was left as it is.") from None


def _say_results(rows: Sequence[Row], target: Path) -> None:
    for row in rows:
        metrics = row.evaluation.metrics if row.evaluation else None
        if metrics is not None:
            figures = (("image AUROC", metrics.image_auroc), ("pixel AUROC", metrics.pixel_auroc), ("PRO", metrics.pro))
            text = ", ".join(f"{name} {'–' if value is None else f'{value:.4f}'}" for name, value in figures)
            click.echo(f"{row.name}, {row.backbone}: {text}; kept: {row.kept}")
        click.echo(_at_threshold(row.threshold, row.evaluation))
    click.echo(f"Run: {target}")


def _at_threshold(threshold: float | None, tested: Evaluation | None) -> str:
    if threshold is None:
        return (
            "  It has no threshold: no good part was held out (--train_val_split 1), so the daemon would answer "
            "fault: no_threshold. For one, hold some out, for instance --train_val_split 0.75."
        )
    if tested is None:
        return f"  Threshold {threshold:.4g}."
    defects = sum(tested.is_defective)
    return (
        f"  Threshold {threshold:.4g}: {tested.missed(threshold)} of {defects} defects are missed, "
        f"{tested.rejected(threshold)} of {len(tested.scores) - defects} good parts are rejected."
    )
