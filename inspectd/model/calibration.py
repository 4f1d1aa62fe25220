"""What `params.pkl` and `calibration.json` of a model folder hold. Only data; `artefact.py` reads and writes it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from inspectd.model.framing import Framing, Tint
from inspectd.model.optics import Optics
from inspectd.model.presence import Presence

CALIBRATION_VERSION = 1
WIDEST_WINDOW = 63

Three = Annotated[int, Meta(ge=3, le=3)]
Side = Annotated[int, Meta(ge=1, le=8192)]
Positive = Annotated[int, Meta(ge=1, le=1 << 20)]
RectSpec = tuple[int, int, int, int]


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"backbone": "backbone.name"}):
    """params.pkl: the published parameters under their published names, and ours where they are used."""

    backbone: str
    layers_to_extract_from: tuple[str, ...]
    input_shape: tuple[Three, Side, Side]
    """Channels, height, width."""
    pretrain_embed_dimension: Positive
    target_embed_dimension: Positive
    patchsize: Annotated[int, Meta(ge=1, le=64)] = 3
    patchstride: Annotated[int, Meta(ge=1, le=64)] = 1
    pre_proj: Annotated[int, Meta(ge=0, le=64)] = 1
    proj_layer_type: int = 0
    dsc_layers: Annotated[int, Meta(ge=1, le=64)] = 2
    dsc_hidden: Positive | None = 1024
    embedding_size: Positive | None = None
    memory_patches: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    memory_width: Positive = 128
    score_window: Annotated[int, Meta(ge=1, le=WIDEST_WINDOW)] = 1

    def to_plain(self) -> dict[str, Any]:
        """Return what params.pkl holds: ours only where they are used, since other programs read the published ones."""
        plain: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(tuple,))
        if self.memory_patches == 0:
            del plain["memory_patches"], plain["memory_width"]
        if self.score_window == 1:
            del plain["score_window"]
        return plain


class CameraRecord(msgspec.Struct, frozen=True):
    """The camera that the good parts were seen with; `identity` None: a file, folder, network or simulation."""

    source: str
    identity: str | None
    width: int
    height: int
    format: str | None = None
    """FOURCC that was asked of the camera; None: its own choice."""
    settings: dict[str, float] = {}
    """Exposure, gain and white balance as read back from it; those of a camera that has none are absent."""


class ThresholdRecord(msgspec.Struct, frozen=True):
    """A threshold and what can be said about it. Rates and confidence are shares, 0 … 1."""

    value: float
    rate: float
    """The false-reject rate that was asked for."""
    confidence: float
    proven_rate: float
    """With `confidence`, at most this share of good parts scores above `value`."""
    parts_needed: int
    """Held-out good parts that can prove `rate`."""
    margin: float
    """How far above the lowest value (that is proven, or above which `rate` is expected) `value` was put."""
    painted: int = 0
    """Defects that were painted into held-out parts, to see how far it may be raised."""
    painted_found: int = 0
    """Of those, the ones that score above `value`."""
    painted_found_at_lowest: int = 0
    """Of those, the ones that score above the lowest value."""
    independent_parts: int | None = None
    """So many independent parts the held-out scores amount to, by their autocorrelation; None: not looked at."""

    @property
    def is_proven(self) -> bool:
        """Whether the bound is as good as what was asked for."""
        return self.proven_rate <= self.rate


class IgnoredPatches(msgspec.Struct, frozen=True):
    """Patches that are no part of the score, learned from and judged without."""

    grid: tuple[Annotated[int, Meta(ge=1, le=8192)], Annotated[int, Meta(ge=1, le=8192)]]
    """Height and width of the whole patch grid."""
    patches: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(max_length=1 << 20)]
    """Their numbers, row by row."""


class Calibration(msgspec.Struct, frozen=True):
    """calibration.json: what the published two files lack."""

    version: int
    run: str
    created: str
    threshold: ThresholdRecord | None
    """None: no part was held out, so none could be set."""
    held_out_scores: tuple[float, ...]
    """Ascending."""
    device: str
    precision: str
    """The form whose scores these are."""
    camera: CameraRecord
    roi: RectSpec | None
    white_level: int
    """The value of a 16-bit picture that is white."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    backbone_digest: str
    seed: int
    pictures: int
    pictures_digest: str
    statistics: dict[str, float]
    """Of all pictures: grey level, contrast (0 … 255), and of how many sizes they were."""
    recipe: dict[str, float | int | bool | str | None]
    versions: dict[str, str]
    files: dict[str, str]
    """SHA-256 of the other files of this folder."""
    resize: int | None = None
    """The shorter side before the centre was cropped; None: no crop."""
    framing: Framing | None = None
    tint: Tint | None = None
    """How the camera looked at the parts; None: parts or textures vary too much to tell a moved camera."""
    optics: Optics | None = None
    """Light and lens; None: it was not tried what the model withstands."""
    ignored: IgnoredPatches | None = None
    """Patches that were left out; None: none were."""
    presence: Presence | None = None
    """What a part is, where parts pass freely: `camera` and all else is of the pictures that are cut out around them;
    None: whole pictures are judged."""
    rois: tuple[RectSpec, ...] = ()
    """Where parts of each picture were learned from as one: `roi` is the first of them."""
