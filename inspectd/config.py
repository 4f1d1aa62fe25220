"""The configuration: frozen typed values, as `config_file` reads them once, at the edge.

Units are part of the names. `configs/inspectd.yaml` shows every key with its default and what it costs.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from inspectd.secrets import redact

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
