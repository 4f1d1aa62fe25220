"""`SimpleNet` for people who want a Python object: load, predict, fit, save."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from inspectd.atomic import new_folder
from inspectd.cameras.image_files import as_picture, list_pictures, read_picture
from inspectd.engine.backend import Request
from inspectd.engine.choose import choose_backend
from inspectd.errors import UsageError
from inspectd.model.ignored import Ignored
from inspectd.records import Picture
from inspectd.simplenet import bundle
from inspectd.simplenet.bundle import Bundle
from inspectd.simplenet.network import MapSmoother

Map = NDArray[np.float32]
Image = str | Path | NDArray[Any]


class SimpleNet:
    """A SimpleNet that can be trained, kept and asked. It scores through the daemon's own engine.

    `device` and `precision` are those of the configuration's `engine`: `auto`, `cpu`, `cuda:1` …; `auto`,
    `float32`, `bfloat16`, `float16`. UsageError when this machine cannot do them.
    """

    def __init__(self, device: str = "auto", precision: str = "auto") -> None:
        self._backend = choose_backend(device, precision)
        self._model: Bundle | None = None

    @property
    def model(self) -> Bundle:
        """The loaded or trained model; UsageError before there is one."""
        if self._model is None:
            raise UsageError("This SimpleNet has no model yet; call load_from_path() or fit() first.")
        return self._model

    @property
    def threshold(self) -> float | None:
        """The calibrated threshold: a score above it is `ng`. None: the model has none."""
        calibration = self.model.calibration
        if calibration is None or calibration.threshold is None:
            return None
        return calibration.threshold.value

    def load_from_path(self, path: str | Path, backbone: str | Path | nn.Module | None = None) -> SimpleNet:
        """Load a model folder, `results/…/models/<i>`; returns itself.

        `backbone`: a weights file or a module, for folders that do not hold their backbone. UsageError when
        something is missing, damaged or not allowed.
        """
        if isinstance(backbone, str):
            backbone = Path(backbone)
        self._model = bundle.load(Path(path), backbone)
        self._backend.prepare(self._model)
        return self

    def save_to_path(self, path: str | Path) -> None:
        """Write the model's folder, whole or not at all; an existing one is replaced."""
        model = self.model
        with new_folder(Path(path)) as folder:
            bundle.save(folder, model)

    def fit(self, images: Iterable[Image] | str | Path, **published_parameters: Any) -> SimpleNet:
        """Train on pictures of good parts (paths or OpenCV arrays) and return itself.

        Parameters are the published ones (`meta_epochs`, `noise_std`, …) and those of `calibrate --camera`;
        see `calibrate.training.fit.fit`. The threshold comes from scores of heads that never
        saw the picture. `images` may also be the path of a folder, whose pictures are taken in name order.
        """
        from calibrate.training.fit import fit

        if isinstance(images, str | Path):
            folder = Path(images)
            if not folder.is_dir():
                raise UsageError(f"fit was given {str(images)!r}; expected pictures, their paths, or a folder of them.")
            images = list_pictures(folder)
        self._model = fit(map(_picture, images), self._backend, **published_parameters)
        return self

    @overload
    def predict(self, img: Image) -> tuple[float, Map]: ...
    @overload
    def predict(self, img: list[Image] | DataLoader[Any]) -> tuple[NDArray[np.float32], list[Map]]: ...
    @overload
    def predict(self, img: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...

    def predict(self, img: Any) -> Any:
        """Score pictures; raw scores, higher is worse.

        One picture (a path, or uint8/uint16 [H, W, 3] BGR or [H, W]): (float, map float32 [H, W]).
        A list, or a DataLoader: (float32 [N], list of maps).
        A normalised tensor float32 [B, 3, h, w]: (float32 [B], maps float32 [B, h, w]).

        The map is smoothed (Gaussian, sigma 4 in pixels of the network's input), brought bilinearly onto the
        inspected rectangle of the picture, and NaN outside it. With a model of parts that pass (mode: part), that is
        the part; UsageError: the picture does not show exactly one.
        """
        if isinstance(img, Tensor):
            return self._predict_tensor(img)
        if isinstance(img, DataLoader):
            return self._predict_loader(img)
        if isinstance(img, list | tuple):
            results = [self._predict_picture(_picture(item)) for item in img]
            return np.array([score for score, _ in results], np.float32), [map_ for _, map_ in results]
        return self._predict_picture(_picture(img))

    def _predict_picture(self, picture: Picture) -> tuple[float, Map]:
        model = self.model
        map_ = np.full(picture.shape[:2], np.nan, np.float32)
        judged, of_judged = picture, map_
        if model.calibration is not None and model.calibration.presence is not None:
            x, y, w, h = model.calibration.presence.place_of(picture, model.white_level)
            judged, of_judged = picture[y : y + h, x : x + w], map_[y : y + h, x : x + w]
        _warn_of_exchanged_colours(model, judged)
        scores = self._backend.score([Request(model, model.geometry, judged)])[0]
        x, y, w, h = model.geometry.area(judged.shape[1], judged.shape[0])
        smooth = self._smooth(torch.from_numpy(scores)[None])
        of_judged[y : y + h, x : x + w] = F.interpolate(smooth[None], size=(h, w), mode="bilinear")[0, 0].numpy()
        return float(_inspected(model, scores[None]).max()), map_

    def _predict_tensor(self, inputs: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        expected = self.model.params.input_shape
        if inputs.dim() != 4 or tuple(inputs.shape[1:]) != expected or not inputs.is_floating_point():
            raise UsageError(
                f"The tensor is {inputs.dtype} {list(inputs.shape)}; expected normalised float32 [B, "
                f"{', '.join(map(str, expected))}]."
            )
        patch_scores = self._backend.score_normalised(self.model, inputs.float().cpu().numpy())
        maps = self._smooth(torch.from_numpy(patch_scores)).numpy()
        return _inspected(self.model, patch_scores).max(axis=(1, 2)), maps

    def _predict_loader(self, loader: DataLoader[Any]) -> tuple[NDArray[np.float32], list[Map]]:
        scores: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
        maps: list[Map] = []
        for batch in loader:
            images = batch["image"] if isinstance(batch, dict) else batch
            images = images[0] if isinstance(images, list | tuple) else images
            some_scores, some_maps = self._predict_tensor(images)
            scores.append(some_scores)
            maps.extend(some_maps)
        return np.concatenate(scores), maps

    def _smooth(self, patch_scores: Tensor) -> Tensor:
        _, height, width = self.model.params.input_shape
        grid = (patch_scores.shape[-2], patch_scores.shape[-1])
        smoothed: Tensor = MapSmoother(grid, (height, width))(patch_scores)
        return smoothed


def _inspected(model: Bundle, patch_scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return patch scores [B, h, w] without those of patches that the calibration left out."""
    ignored = model.calibration.ignored if model.calibration else None
    if ignored is None:
        return patch_scores
    height, width = patch_scores.shape[1:]
    seen = Ignored(patches=ignored).seen((0, 0, width, height), (height, width), (width, height))
    return np.where(seen, patch_scores, np.float32(-np.inf))


def _warn_of_exchanged_colours(model: Bundle, picture: Picture) -> None:
    """Say it when a picture has the good ones' colours only with red and blue exchanged."""
    colours = model.calibration.tint if model.calibration else None
    if colours is None or picture.ndim == 2 or colours.distance(picture) <= colours.limit:
        return
    if colours.distance(picture[:, :, ::-1]) <= colours.limit:
        warnings.warn(
            "The picture has red and blue exchanged: arrays are expected as OpenCV makes them, BGR. An RGB array needs "
            "picture[:, :, ::-1].",
            stacklevel=4,
        )


def _picture(image: Image) -> Picture:
    if isinstance(image, str | Path):
        return read_picture(Path(image))
    return as_picture(image, "The picture")
