"""YAML of plain values, strictly: mappings, lists, text, numbers, true and false, null. Bounded in time and words."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, NoReturn

import yaml

from inspectd.errors import UsageError
from inspectd.secrets import redact


def load_yaml(text: str, origin: str) -> object:
    """Return what a text of YAML holds; UsageError says in one sentence where it is none. `origin` names it."""
    try:
        return yaml.load(text, _PlainLoader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(f"{origin} is not valid YAML: {redact(' '.join(str(error).split()))[:300]}.") from None
    except RecursionError:
        raise UsageError(f"{origin} is not valid YAML: it is nested too deeply.") from None


_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,29}|0o[0-7]{1,30}|0x[0-9a-fA-F]{1,30})")
_DECIMAL = re.compile(r"[-+]?([0-9]{1,30}\.[0-9]{0,30}|\.[0-9]{1,30}|[0-9]{1,30}(?=[eE]))([eE][-+]?[0-9]{1,4})?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class _PlainLoader(yaml.SafeLoader):
    """YAML of mappings, lists, text, numbers, true and false, null: nothing else has a place in a configuration.

    YAML silently keeps the last of two equal keys; a threshold must not get lost that way.
    """

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        """Return a whole number: decimal, 0x or 0o."""
        if not _WHOLE.fullmatch(str(node.value)):
            raise yaml.constructor.ConstructorError(None, None, "this is no whole number", node.start_mark)
        return int(node.value, 0)

    def construct_decimal(self, node: yaml.ScalarNode) -> float:
        """Return a decimal number."""
        text = str(node.value)
        if _NOT_FINITE.fullmatch(text):
            return float(text.replace(".", "", 1))
        if not _DECIMAL.fullmatch(text) and not _WHOLE.fullmatch(text):
            raise yaml.constructor.ConstructorError(None, None, "this is no number", node.start_mark)
        return float(text)

    def construct_truth(self, node: yaml.ScalarNode) -> bool:
        """Return true or false."""
        value = self.bool_values.get(str(node.value).lower())
        if value is None:
            raise yaml.constructor.ConstructorError(None, None, "this is neither true nor false", node.start_mark)
        return value

    def construct_unknown(self, node: yaml.Node) -> NoReturn:
        """Refuse a tag."""
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")[:40]
        raise yaml.constructor.ConstructorError(None, None, f"the tag {tag} has no place here", node.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(None, None, "this is no mapping", node.start_mark)
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=deep)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} stands there twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


def _prepare_loader() -> None:
    plain = yaml.SafeLoader
    _PlainLoader.yaml_constructors = {}
    _PlainLoader.yaml_implicit_resolvers = {}
    for kind in ("null", "str", "seq", "map"):
        tag = f"tag:yaml.org,2002:{kind}"
        _PlainLoader.add_constructor(tag, plain.yaml_constructors[tag])
    _PlainLoader.add_constructor("tag:yaml.org,2002:bool", _PlainLoader.construct_truth)
    _PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_whole)
    _PlainLoader.add_constructor("tag:yaml.org,2002:float", _PlainLoader.construct_decimal)
    _PlainLoader.add_constructor(None, _PlainLoader.construct_unknown)
    whole = re.compile(f"(?:{_WHOLE.pattern})\\Z")
    decimal = re.compile(f"(?:{_DECIMAL.pattern}|{_NOT_FINITE.pattern})\\Z")
    for first, resolvers in plain.yaml_implicit_resolvers.items():
        for tag, pattern in resolvers:
            if tag.rpartition(":")[2] in ("null", "bool", "merge"):
                _PlainLoader.add_implicit_resolver(tag, pattern, [first])
    _PlainLoader.add_implicit_resolver("tag:yaml.org,2002:float", decimal, list("-+.0123456789"))
    _PlainLoader.add_implicit_resolver("tag:yaml.org,2002:int", whole, list("-+0123456789"))


_prepare_loader()
