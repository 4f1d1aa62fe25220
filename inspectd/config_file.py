"""Reading the configuration: every mistake is told at once, in the words of the file."""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from inspectd.config import CameraConfig, Config, Label
from inspectd.contradictions import MODEL_EXPECTED, contradictions
from inspectd.errors import UsageError
from inspectd.reading import read_regular
from inspectd.secrets import redact
from inspectd.strict_yaml import load_yaml

MOST_BYTES = 128 * 1024
"""Sixteen cameras with every key take a tenth of this; YAML of megabytes takes minutes."""
MOST_CAMERAS = 256
MOST_NAMED = 64
"""Recipes of a camera, or areas of a recipe."""
MOST_MISTAKES = 40


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
