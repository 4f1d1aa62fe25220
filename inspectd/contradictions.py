"""What is well-typed in a configuration and still cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspectd import patterns
from inspectd.addresses import is_local, is_loopback, is_socket, split_address
from inspectd.plan import plans_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inspectd.config import CameraConfig, Config, RecipeConfig


MODEL_EXPECTED = "a folder that `inspectd calibrate` wrote"


def contradictions(config: Config) -> list[str]:
    """Return a sentence for each mistake that no key has by itself."""
    found: list[str] = []
    seen: dict[str, int] = {}
    for i, camera in enumerate(config.cameras):
        if camera is None:  # its mistakes are told already
            continue
        found += _camera(camera, f"cameras[{i}]")
        if camera.name in seen:
            found.append(
                f"cameras[{i}].name is {camera.name!r}, as cameras[{seen[camera.name]}].name already is; "
                "expected another name"
            )
        seen.setdefault(camera.name, i)
    if config.cameras and not any(camera is None or camera.enabled for camera in config.cameras):
        found.append("cameras: none is enabled; expected at least one with enabled: true")
    found += _addresses(config) or _taken_twice(config)
    found += _kept(config)
    return found


def _camera(camera: CameraConfig, where: str) -> list[str]:
    """Return what is wrong with one camera."""
    found = []
    if camera.source == "":
        found.append(f"{where}.source is empty; expected a camera, address, file or folder")
    found += _places(camera, where)
    found += _patterns(camera, where)
    if camera.shadow is not None and camera.shadow in ("", camera.model):
        found.append(f"{where}.shadow is {camera.shadow!r}; expected the folder of another model than {where}.model")
    if camera.shadow is not None and (camera.areas or camera.recipes):
        found.append(f"{where}.shadow is for a camera with one model; expected it without areas and recipes")
    found += _triggers(camera, where)
    found += _looks(camera, where)
    if camera.synchronized and not str(camera.source).lower().startswith(("rtsp://", "rtsps://")):
        found.append(f"{where}.synchronized is for RTSP cameras (rtsp://…); expected such a source, or nothing")
    if camera.synchronized and camera.mode == "trigger":
        found.append(
            f"{where}.synchronized cannot be used with mode: trigger; a clock that is a little off cannot be told, and "
            "pictures would be those of other parts. Expected nothing"
        )
    if camera.features and not str(camera.source).startswith("aravis://"):
        found.append(f"{where}.features is for GenICam cameras (aravis://…); expected such a source, or nothing")
    return found


def _places(camera: CameraConfig, where: str) -> Iterator[str]:
    """Yield what is wrong with where a camera looks, and by which models."""
    sections: list[tuple[str, CameraConfig | RecipeConfig]] = [(where, camera)]
    sections += [(f"{where}.recipes.{name}", recipe) for name, recipe in (camera.recipes or {}).items()]
    for at, section in sections:
        if section.areas is not None and section.roi is not None:
            yield f"{at} has a roi and areas; expected either, or the roi in each area"
        if section.ignore == "":
            yield f"{at}.ignore is empty; expected a list of polygons, or the path of a PNG"
    for name, plan in plans_of(camera).items():
        at = where if name is None else f"{where}.recipes.{name}"
        for area in plan.areas:
            if not area.model:
                which = at if area.name is None else f"{at}.areas.{area.name}"
                yield f"{which}.model is missing; expected {MODEL_EXPECTED}"


def _patterns(camera: CameraConfig, where: str) -> Iterator[str]:
    """Yield which two recipes would both claim a part."""
    parts = [(name, recipe.parts) for name, recipe in (camera.recipes or {}).items() if recipe.parts is not None]
    if parts and camera.mode != "trigger":
        at = f"{where}.recipes.{parts[0][0]}.parts"
        yield f"{at} needs ids of parts, which come with triggers; expected mode: trigger"
    for i, (name, pattern) in enumerate(parts):
        for other, its_pattern in parts[:i]:
            if (both := patterns.common_text(pattern, its_pattern)) is not None:
                yield (
                    f"{where}.recipes.{name}.parts is {pattern!r}, and {where}.recipes.{other}.parts {its_pattern!r}: "
                    f"a part {both!r} would belong to both; expected patterns that no id fits twice"
                )


def _triggers(camera: CameraConfig, where: str) -> Iterator[str]:
    """Yield what is wrong with when a camera looks."""
    if camera.mode == "trigger" and camera.trigger_delay_ms >= camera.deadline_ms:
        yield (
            f"{where}.trigger_delay_ms is {camera.trigger_delay_ms:g}, and the verdict is due after deadline_ms "
            f"{camera.deadline_ms:g}; expected less"
        )
    is_told = camera.features.get("TriggerMode") in ("On", True) and camera.features.get("TriggerSource") == "Software"
    if camera.mode == "trigger" and camera.triggered_by == "camera" and is_told:
        yield (
            f"{where}.features.TriggerSource is Software: the camera takes a picture when it is told, and with "
            "triggered_by: camera nobody tells it; expected its input, or triggered_by: command"
        )
    usual = {"triggered_by": "command", "allow_arrival_time": False, "trigger_delay_ms": 0, "trigger_window_ms": None}
    for key, value in usual.items():
        if camera.mode != "trigger" and getattr(camera, key) != value:
            yield f"{where}.{key} is for mode: trigger; expected that mode, or nothing"


def _looks(camera: CameraConfig, where: str) -> Iterator[str]:
    """Yield what is wrong with how parts that pass freely are looked at."""
    looks = camera.looks
    if camera.mode != "part":
        if (looks.best_of, looks.ng_if) != (1, 1):
            yield f"{where}.looks is for mode: part; expected that mode, or nothing"
        return
    if looks.ng_if > looks.best_of:
        yield f"{where}.looks.ng_if is {looks.ng_if}, of {looks.best_of} looks; expected at most looks.best_of"
    takes_ms = 0 if camera.fps is None else (looks.best_of - 1) * 1000 / camera.fps
    if takes_ms >= camera.deadline_ms:
        yield (
            f"{where}.looks.best_of is {looks.best_of}, which takes {takes_ms:.0f} ms at {camera.fps:g} pictures a "
            f"second, and the verdict is due after deadline_ms {camera.deadline_ms:g}; expected fewer looks, or more "
            "time"
        )
    several = [key for key in ("areas", "ignore", "shadow") if getattr(camera, key)]
    several += [f"recipes.{name}" for name, one in (camera.recipes or {}).items() if one.areas or one.ignore or one.roi]
    if several:
        yield (
            f"{where} has mode: part, in which the picture of each part is cut out and judged as a whole; expected it "
            f"without {' and '.join(several)}"
        )


def _kept(config: Config) -> list[str]:
    """Return what is wrong with journal and archive."""
    found = []
    if config.journal.path == "":
        found.append("journal.path is empty; expected a file, or null for no journal")
    if config.archive.path == "":
        found.append("archive.path is empty; expected a folder, or archive.max_gb: 0 for no archive")
    if config.journal.path is None and config.archive.max_gb > 0:
        found.append(
            "journal.path is null, and an archive needs the journal to find its pictures; expected archive.max_gb: 0 "
            "too, or a file for the journal"
        )
    return found


def _addresses(config: Config) -> list[str]:
    found = []
    secret = config.security.curve_secret
    for section, address, allow in (
        ("publish", config.publish.bind, config.publish.allow),
        ("control", config.control.bind, config.control.allow),
    ):
        if not is_socket(address):
            found.append(f"{section}.bind is {address!r}; expected tcp://HOST:PORT or ipc://PATH")
        elif is_local(address):
            if allow is not None:
                found.append(
                    f"{section}.allow is set, but {section}.bind is {address!r}, where nobody is asked for a key; "
                    "leave it out, or bind an address that others can reach"
                )
        elif missing := [
            key for key, value in ((f"{section}.allow", allow), ("security.curve_secret", secret)) if not value
        ]:
            found.append(
                f"{section}.bind is {address!r}, which others can reach; expected {' and '.join(missing)} too (CURVE; "
                "`inspectd keygen` makes keys), or a loopback address such as tcp://127.0.0.1:5556"
            )
    found += _next_addresses(config)
    if secret and all(map(is_local, (config.publish.bind, config.control.bind))):
        found.append(
            "security.curve_secret is set, but nobody is asked for a key on loopback addresses; leave it out, or bind "
            "publish or control where others can reach it"
        )
    listen = config.metrics.listen
    if split_address(listen) is None:
        found.append(f"metrics.listen is {listen!r}; expected HOST:PORT")
    metrics = config.metrics
    keys = {"tls_cert": metrics.tls_cert, "tls_key": metrics.tls_key, "token_file": metrics.token_file}
    lacks = [f"metrics.{name}" for name, value in keys.items() if value is None]
    if lacks and split_address(listen) is not None and not is_loopback(listen):
        found.append(
            f"metrics.listen is {listen!r}, which others can reach; expected {' and '.join(lacks)}, or a loopback "
            "address such as 127.0.0.1:9108"
        )
    elif (metrics.tls_cert is None) is not (metrics.tls_key is None):
        found.append(f"{lacks[0]} is missing; expected both metrics.tls_cert and metrics.tls_key, or neither")
    return found


def _next_addresses(config: Config) -> list[str]:
    """Return what is wrong with the addresses where the daemon's next key is used beside the present one."""
    found = []
    nexts = (
        ("publish", config.publish.bind, config.publish.next_bind),
        ("control", config.control.bind, config.control.next_bind),
    )
    for section, address, later in nexts:
        if later is None:
            continue
        if not is_socket(later):
            found.append(f"{section}.next_bind is {later!r}; expected tcp://HOST:PORT")
        elif is_local(later) or is_local(address):
            found.append(
                f"{section}.next_bind is set, but nobody is asked for a key on loopback addresses; leave it out"
            )
        elif not config.security.next_secret:
            found.append(f"{section}.next_bind is set; expected security.next_secret, the key that is used there")
    if config.security.next_secret and all(later is None for _, _, later in nexts):
        found.append("security.next_secret is set; expected publish.next_bind or control.next_bind, where it is used")
    return found


def _taken_twice(config: Config) -> list[str]:
    """Return which two of the addresses cannot both be bound."""
    found: list[str] = []
    seen: dict[object, str] = {}
    for where, address in (
        ("publish.bind", config.publish.bind),
        ("control.bind", config.control.bind),
        ("metrics.listen", config.metrics.listen),
        ("publish.next_bind", config.publish.next_bind),
        ("control.next_bind", config.control.next_bind),
    ):
        if address is None:
            continue
        key: object = address
        parts = split_address(address.removeprefix("tcp://"))
        if parts is not None and not address.startswith("ipc://"):
            if parts[1] == 0:  # any free port
                continue
            key = parts[1] if is_loopback(address.removeprefix("tcp://")) else parts
        if key in seen:
            found.append(f"{where} is {address!r}, which {seen[key]} has already; expected another port")
        seen.setdefault(key, where)
    return found
