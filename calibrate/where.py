"""Which part of a camera's picture is learned from, by the command line or a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inspectd.errors import UsageError
from inspectd.plan import AreaPlan, Plan, plans_of

if TYPE_CHECKING:  # the command line is read before anything heavy is loaded
    from pathlib import Path

    from inspectd.config import CameraConfig, Ignore, LooksConfig
    from inspectd.records import Rect


@dataclass(frozen=True, slots=True)
class Passing:
    """How parts that pass by themselves are looked for."""

    looks: LooksConfig
    window: Rect | None
    """None: in the whole picture."""
    empty: Path | None
    """Pictures of the empty place; None: it is found among the others."""


@dataclass(frozen=True, slots=True)
class Where:
    """The places that one model is for."""

    rois: tuple[Rect, ...]
    """Several: areas that share the model. Empty: everything."""
    ignore: Ignore

    def window_of_parts(self) -> Rect | None:
        """Return where parts that pass are looked for; None: everywhere. UsageError: that is not one place."""
        if self.ignore or len(self.rois) > 1:
            raise UsageError(
                "In mode part the picture of each part is cut out and judged as a whole; expected one --roi at most, "
                "where parts are looked for, and nothing ignored."
            )
        return self.rois[0] if self.rois else None

    def check(self, size: tuple[int, int]) -> None:
        """Refuse what does not lie inside pictures of this width and height (UsageError)."""
        for x, y, w, h in self.rois:
            if not (0 <= x < x + w <= size[0] and 0 <= y < y + h <= size[1]):
                raise UsageError(
                    f"--roi is {[x, y, w, h]}; expected x y w h inside the picture of {size[0]}x{size[1]}."
                )


EVERYWHERE = Where((), ())


def look_at(
    camera: CameraConfig, product: str | None, areas: tuple[str, ...], rois: tuple[Rect, ...], ignore: str | None
) -> Where:
    """Return what is meant; UsageError: that is not clear, or asked for twice.

    `rois`, `ignore`: what the command line asks for, in the place of what the configuration says.
    """
    plan = _product(camera, product)
    chosen = _areas(camera, plan, areas)
    if rois and areas:
        raise UsageError("--roi and --area each say where to look; give one of them.")
    configured = tuple(area.roi for area in chosen if area.roi is not None)
    if len(chosen) > 1 and len(configured) < len(chosen):
        raise UsageError(f"Of the areas {', '.join(map(_name, chosen))} some have no roi, and so look at everything.")
    where = Where(rois or configured, plan.ignore if ignore is None else ignore)
    if len({roi[2:] for roi in where.rois}) > 1:
        places = ", ".join(str(list(roi)) for roi in where.rois)
        raise UsageError(f"The rois {places} have different sizes; areas that share a model have the same.")
    if len(where.rois) > 1 and where.ignore:
        raise UsageError("Several rois and something that is ignored cannot be learned from as one; leave one out.")
    return where


def _product(camera: CameraConfig, product: str | None) -> Plan:
    plans = plans_of(camera)
    names = ", ".join(str(name) for name in plans)
    if product is None and len(plans) > 1:
        raise UsageError(f"Camera {camera.name} has the recipes {names}; say with --recipe which one is shown.")
    if product is not None and product not in plans:
        there_are = f"it has {names}" if camera.recipes else "it has no recipes"
        raise UsageError(f"--recipe is {product!r}, which camera {camera.name} does not have: {there_are}.")
    return plans[product] if product is not None else next(iter(plans.values()))


def _areas(camera: CameraConfig, plan: Plan, areas: tuple[str, ...]) -> list[AreaPlan]:
    names = ", ".join(_name(area) for area in plan.areas if area.name is not None) or "none"
    unknown = [name for name in areas if name not in {area.name for area in plan.areas}]
    if unknown:
        raise UsageError(f"--area is {unknown[0]!r}; camera {camera.name} has the areas: {names}.")
    chosen = [area for area in plan.areas if not areas or area.name in areas]
    if len({area.model for area in chosen}) > 1:
        raise UsageError(
            f"The areas {', '.join(map(_name, chosen))} have models of their own; say with --area for which this is."
        )
    return chosen


def _name(area: AreaPlan) -> str:
    return str(area.name)
