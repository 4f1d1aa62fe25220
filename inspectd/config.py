"""The configuration: read once, at the edge, into frozen typed values; every mistake is told at once.

Units are part of the names. `configs/inspectd.yaml` shows every key with its default and what it costs.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from inspectd.contradictions import MODEL_EXPECTED, contradictions
from inspectd.errors import UsageError
from inspectd.reading import read_regular
from inspectd.secrets import redact
from inspectd.strict_yaml import load_yaml

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Milliseconds = Annotated[float, Meta(gt=0, le=86_400_000)]
Hours = Annotated[float, Meta(gt=0, le=87_600)]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,31}\Z",
        description="a lower-case name such as top or cam-1: a-z, 0-9, _ and -, at most 32",
    ),
]
DEVICE_NAMES = r"(auto|cpu(:openvino|:torch)?|cuda(:\d{1,3})?)"
Device = Annotated[
    str,
    Meta(
        pattern=rf"^{DEVICE_NAMES}\Z",
        description="auto, cpu, cpu:openvino, cpu:torch, cuda or cuda:N",
    ),
]
FourCC = Annotated[str, Meta(pattern=r"^[ -~]{4}\Z", description="four letters such as MJPG or YUYV")]
Size = tuple[Count, Count]
Offset = Annotated[int, Meta(ge=0, le=1_000_000)]
CameraIndex = Annotated[int, Meta(ge=0, le=1023, description="a camera index from 0")]
Roi = tuple[Offset, Offset, Count, Count]
Point = tuple[Annotated[int, Meta(ge=-1_000_000, le=1_000_000)], Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]]
Polygon = Annotated[tuple[Point, ...], Meta(min_length=3, max_length=1000)]
Ignore = Annotated[
    tuple[Polygon, ...] | str,
    Meta(description="a list of polygons, each a list of at least 3 corners [x, y]; or the path of a PNG"),
]
PartPattern = Annotated[
    str, Meta(min_length=1, max_length=64, description="a pattern of part ids such as A-*, of at most 64 characters")
]
Label = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z",
        description="a name such as A or gear-40: letters, digits, _, . and -, at most 32",
    ),
]


FeatureName = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}\Z", description="the name of a GenICam feature such as ExposureTime"),
]


MOST_BYTES = 128 * 1024
"""Sixteen cameras with every key take a tenth of this; YAML of megabytes takes minutes."""
MOST_CAMERAS = 256
MOST_NAMED = 64
"""Recipes of a camera, or areas of a recipe."""
MOST_MISTAKES = 40


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section: immutable, and without room for misspelt keys."""


class EngineConfig(Frozen, frozen=True):
    """The one inference engine."""

    device: Device = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_batch: Annotated[int, Meta(ge=1, le=256)] = 16
    batch_wait_ms: Annotated[float, Meta(ge=0, le=10_000)] = 2
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Processor threads of the engine; 0: all cores."""


class AreaConfig(Frozen, frozen=True):
    """One of several areas of a camera's picture; what is left out is the recipe's, or the camera's."""

    roi: Roi | None = None
    model: str | None = None
    threshold: float | None = None


class RecipeConfig(Frozen, frozen=True):
    """One of several products; what is left out is the camera's."""

    model: str | None = None
    threshold: float | None = None
    roi: Roi | None = None
    areas: dict[Label, AreaConfig] | None = None
    ignore: Ignore | None = None
    parts: PartPattern | None = None
    """Pattern of its parts' ids: `*` stands for any characters, `?` for one."""


class LooksConfig(Frozen, frozen=True):
    """How many pictures of a part that passes freely its verdict comes from."""

    best_of: Annotated[int, Meta(ge=1, le=20)] = 1
    ng_if: Annotated[int, Meta(ge=1, le=20)] = 1
    """So many of them must be ng for the part to be."""


class ChallengeConfig(Frozen, frozen=True):
    """How often known parts must be shown, and told apart; None: whenever somebody likes."""

    good_every_h: Hours | None = None
    bad_every_h: Hours | None = None


class CameraConfig(Frozen, frozen=True):
    """One camera and the model that judges its pictures."""

    name: Name
    source: CameraIndex | str
    model: str | None = None
    """None: each recipe, or area, has its own."""
    threshold: float | None = None
    mode: Literal["stream", "trigger", "part"] = "stream"
    looks: LooksConfig = LooksConfig()
    challenge: ChallengeConfig = ChallengeConfig()
    triggered_by: Literal["command", "camera"] = "command"
    allow_arrival_time: bool = False
    synchronized: bool = False
    """An RTSP camera's wall clock follows the same time server as this machine's."""
    areas: dict[Label, AreaConfig] | None = None
    recipes: dict[Label, RecipeConfig] | None = None
    ignore: Ignore = ()
    shadow: str | None = None
    policy: Literal["latest", "every"] = "latest"
    deadline_ms: Milliseconds = 200
    trigger_delay_ms: Annotated[float, Meta(ge=0, le=86_400_000)] = 0
    trigger_window_ms: Milliseconds | None = None
    """None: 100 where the camera is told to take each picture; else up to the deadline."""
    roi: Roi | None = None
    enabled: bool = True
    size: Size | None = None
    fps: Annotated[float, Meta(gt=0, le=10_000)] | None = None
    format: FourCC | None = None
    exposure: float | None = None
    gain: float | None = None
    white_balance: float | None = None
    features: dict[FeatureName, bool | int | float | str] = msgspec.field(default_factory=dict)
    """Of a GenICam camera (aravis://), set and read back at each opening."""
    open_timeout_ms: Milliseconds = 5000
    read_timeout_ms: Milliseconds = 1000
    frozen_ms: Annotated[float, Meta(ge=0, le=86_400_000)] = 1000
    loop: bool = False


class PublishConfig(Frozen, frozen=True):
    """The XPUB socket."""

    bind: str = "tcp://127.0.0.1:5556"
    masks: Literal["all", "ng", "none"] = "all"
    frame_hz: Annotated[float, Meta(ge=0, le=1000)] = 2
    allow: str | None = None
    next_bind: str | None = None


class ControlConfig(Frozen, frozen=True):
    """The ROUTER socket."""

    bind: str = "tcp://127.0.0.1:5557"
    allow: str | None = None
    next_bind: str | None = None


class MetricsConfig(Frozen, frozen=True):
    """The Prometheus endpoint."""

    listen: str = "127.0.0.1:9108"
    tls_cert: str | None = None
    tls_key: str | None = None
    token_file: str | None = None
    """What whoever asks must know, as `Authorization: Bearer …`."""


class JournalConfig(Frozen, frozen=True):
    """Where every verdict is kept, and every change."""

    path: str | None = "/var/lib/inspectd/journal.db"
    keep_days: Annotated[float, Meta(gt=0, le=36_500)] = 30
    max_gb: Annotated[float, Meta(gt=0, le=100_000)] = 20


class ArchiveConfig(Frozen, frozen=True):
    """Where pictures are kept: of all that was not ok, and of a share of what was."""

    path: str = "/var/lib/inspectd/archive"
    max_gb: Annotated[float, Meta(ge=0)] = 20
    ok_share: Annotated[float, Meta(ge=0, le=1)] = 0.001


class SecurityConfig(Frozen, frozen=True):
    """CURVE."""

    curve_secret: str | None = None
    next_secret: str | None = None


class Config(Frozen, frozen=True):
    """The whole configuration file."""

    cameras: Annotated[tuple[CameraConfig, ...], Meta(min_length=1)]
    engine: EngineConfig = EngineConfig()
    publish: PublishConfig = PublishConfig()
    control: ControlConfig = ControlConfig()
    metrics: MetricsConfig = MetricsConfig()
    journal: JournalConfig = JournalConfig()
    archive: ArchiveConfig = ArchiveConfig()
    security: SecurityConfig = SecurityConfig()

    @property
    def digest(self) -> str:
        """SHA-256 of what is configured, defaults included, however it is written down; passwords left out."""
        cameras = [
            one if isinstance(one.source, int) else msgspec.structs.replace(one, source=redact(one.source))
            for one in self.cameras
        ]
        return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(self, cameras=cameras))).hexdigest()

    @property
    def enabled_cameras(self) -> tuple[CameraConfig, ...]:
        """The cameras that are to be inspected."""
        return tuple(camera for camera in self.cameras if camera.enabled)


def load(path: Path) -> Config:
    """Read and validate a configuration file; raise UsageError with one line for each mistake."""
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Return the text of a configuration file; UsageError when it cannot be one."""
    try:
        return read_regular(path, MOST_BYTES).decode()
    except (OSError, ValueError) as error:
        is_text = not isinstance(error, UnicodeDecodeError)
        why = getattr(error, "strerror", None) or (str(error) if is_text else "it is not UTF-8 text")
        raise UsageError(f"The configuration {path} cannot be read: {why}.") from None


def parse(text: str, origin: str = "configuration") -> Config:
    """Validate the text of a configuration; `origin` names it in messages."""
    raw = load_yaml(text, origin)
    mistakes: list[str] = []
    values = _fields(Config, {} if raw is None else raw, "", mistakes)
    config = Config(**{"cameras": (), **values})
    mistakes += contradictions(config)
    if mistakes:
        more = [f"and {len(mistakes) - MOST_MISTAKES} more"] if len(mistakes) > MOST_MISTAKES else []
        lines = "\n".join(f"  {redact(mistake)[:500]}" for mistake in [*mistakes[:MOST_MISTAKES], *more])
        number = f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}"
        raise UsageError(f"{origin} has {number}:\n{lines}")
    return config


_WRONG = object()  # stands for a value that was a mistake


class _Brief(reprlib.Repr):
    """Short, and without secrets: what is cut away could have shown where one ends."""

    def repr_str(self, x: str, level: int) -> str:
        """Return a text's beginning and end."""
        return super().repr_str(redact(x), level)


_BRIEFLY = _Brief()
_BRIEFLY.maxstring, _BRIEFLY.maxother, _BRIEFLY.maxlevel = 60, 60, 3
_CAMERAS = get_type_hints(Config, include_extras=True)["cameras"]


def _fields(kind: type[msgspec.Struct], raw: object, where: str, mistakes: list[str]) -> dict[str, Any]:
    """Convert a mapping field by field, so that every mistake in it is found; return what is right."""
    if not isinstance(raw, Mapping):
        mistakes.append(f"{where or 'the file'} is {_show(raw)}; expected a mapping with keys")
        return {}
    hints = get_type_hints(kind, include_extras=True)
    fields = {f.name: f for f in msgspec.structs.fields(kind)}
    prefix = f"{where}." if where else ""
    for key in list(raw)[: 4 * MOST_MISTAKES]:
        if key not in fields:
            shown = key if isinstance(key, str) and key.isprintable() and len(key) <= 40 else _show(key)
            near = difflib.get_close_matches(shown, fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(fields)}"
            mistakes.append(f"{prefix}{shown} is not a known key; {hint}")
    values = {name: _value(hints[name], raw[name], prefix + name, mistakes) for name in fields if name in raw}
    for name, field in fields.items():
        if name not in raw and field.required:
            mistakes.append(f"{prefix}{name} is missing; expected {_expected(hints[name])}")
    return {name: value for name, value in values.items() if value is not _WRONG}


def _camera(raw: object, where: str, mistakes: list[str]) -> CameraConfig | None:
    """Return a camera; None when it lacks what it cannot be without."""
    values = _fields(CameraConfig, raw, where, mistakes)
    if not isinstance(raw, Mapping):
        return None
    is_whole = {"name", "source"} <= values.keys() and ("model" in values or "model" not in raw)
    if not is_whole and not {"model", "areas", "recipes"} & raw.keys():
        mistakes.append(f"{where}.model is missing; expected {MODEL_EXPECTED}")
    return CameraConfig(**values) if is_whole else None


def _value(kind: Any, raw: object, where: str, mistakes: list[str]) -> Any:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind(**_fields(kind, {} if raw is None else raw, where, mistakes))
    if kind is _CAMERAS and isinstance(raw, list) and len(raw) > MOST_CAMERAS:
        mistakes.append(f"{where} has {len(raw)} cameras; expected at most {MOST_CAMERAS}")
        return _WRONG
    if kind is _CAMERAS and isinstance(raw, list) and raw:
        return tuple(_camera(item, f"{where}[{i}]", mistakes) for i, item in enumerate(raw))
    if (named := _named(kind)) is not None and isinstance(raw, Mapping):
        return _mapping(named, raw, where, mistakes)
    is_number = not (isinstance(raw, float) and not math.isfinite(raw))
    try:
        if is_number:
            return msgspec.convert(raw, kind)
    except msgspec.ValidationError:
        pass
    mistakes.append(f"{where} is {_show(raw)}; expected {_expected(kind)}")
    return _WRONG


def _named(kind: Any) -> type[msgspec.Struct] | None:
    """Return what is in a mapping from names to sections; None: the key is no such mapping."""
    for arm in get_args(kind):
        if get_origin(arm) is dict:
            section = get_args(arm)[1]
            return section if isinstance(section, type) and issubclass(section, msgspec.Struct) else None
    return None


def _mapping(kind: type[msgspec.Struct], raw: Mapping[Any, Any], where: str, mistakes: list[str]) -> Any:
    """Convert sections that have names, so that every mistake in them is found."""
    if not 0 < len(raw) <= MOST_NAMED:
        mistakes.append(f"{where} has {len(raw)} entries; expected 1 to {MOST_NAMED}, or null")
        return _WRONG
    found = {}
    for name, one in raw.items():
        try:
            label = msgspec.convert(name, Label)
        except msgspec.ValidationError:
            mistakes.append(f"{where} has an entry {_show(name)}; expected {_expected(Label)}")
            continue
        found[label] = kind(**_fields(kind, {} if one is None else one, f"{where}.{label}", mistakes))
    return found


def _show(raw: object) -> str:
    """Write a value, however large or deep, in at most 80 characters."""
    try:
        text = "null" if raw is None else _BRIEFLY.repr(raw)
    except ValueError:  # Python does not write integers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


_PLAIN = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}


def _expected(kind: Any) -> str:
    """Say in words what a key's type admits."""
    if kind is _CAMERAS:
        return "a list with at least one camera"
    origin = get_origin(kind)
    if origin is Annotated:
        base, meta = get_args(kind)
        if meta.description:
            return str(meta.description)
        return _expected(base) + _limits(meta)
    if origin is Literal:
        return " or ".join(str(value) for value in get_args(kind))
    if origin is UnionType or str(origin) == "typing.Union":
        return " or ".join(_expected(arm) for arm in get_args(kind))
    of_several = {dict: "a mapping with a name for each", tuple: f"a list of {len(get_args(kind))} whole numbers"}
    return of_several.get(origin) or _PLAIN.get(kind, getattr(kind, "__name__", str(kind)))


def _limits(meta: Meta) -> str:
    parts = [
        f"{sign} {value:.12g}"
        for sign, value in ((">=", meta.ge), (">", meta.gt), ("<=", meta.le))
        if value is not None
    ]
    return f" {' and '.join(parts)}" if parts else ""
