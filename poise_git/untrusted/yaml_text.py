"""Read YAML within limits of size, depth and number of nodes, with aliases expanded.

It is the YAML 1.1 that PyYAML reads, with restrictions. Tags other than those of JSON's types, duplicate keys, and keys
that are not text are refused. Dates are read as text. Octal and base-60 numbers are read as text too, which a field for
a number refuses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml
from yaml.constructor import ConstructorError

DEPTH = 64
# The longest number: 10^64 is larger than any count, and still a float.
NUMBER_LENGTH = 64
_PREFIX = "tag:yaml.org,2002:"
_TEXT, _LIST, _MAPPING, _MERGE = (f"{_PREFIX}{name}" for name in ("str", "seq", "map", "merge"))
_NUMBERS = frozenset(f"{_PREFIX}{name}" for name in ("int", "float", "bool", "null"))
_INTEGER, _FLOAT = f"{_PREFIX}int", f"{_PREFIX}float"
_WORD_LENGTH = 64
_INFINITE = frozenset((".inf", "+.inf", "-.inf"))


@dataclass(frozen=True)
class Limits:
    """The limits of one text: its characters, and its nodes with aliases expanded."""

    characters: int
    nodes: int


# Settings, protocols and cards are written by hand. Documents are larger: they hold ledgers and the terms of every
# candidate.
SETTINGS = Limits(characters=256 * 1024, nodes=20_000)
DOCUMENT = Limits(characters=8 * 1024 * 1024, nodes=500_000)


class BadYaml(ValueError):
    """The problem and its line (from 1; 0 if unknown)."""

    def __init__(self, line: int, what: str) -> None:
        self.line, self.what = line, what
        super().__init__(f"line {line}: {what}" if line else what)


@dataclass(frozen=True)
class Parsed:
    """The plain data of a text and its nodes; both None if the text is empty."""

    data: Any
    tree: yaml.Node | None


def parse(text: str, limits: Limits = DOCUMENT) -> Parsed:
    """Read one YAML document.

    Raises BadYaml if it is not YAML, or exceeds the limits.
    """
    if len(text) > limits.characters:
        raise BadYaml(0, f"{len(text)} characters; at most {limits.characters} are read")
    try:
        loader = _Loader(text)
        try:
            tree = loader.compose_within(limits.nodes)
            return Parsed(None if tree is None else loader.construct_document(tree), tree)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        raise BadYaml(mark.line + 1 if mark else _line_of(text, error), f"not YAML: {what}") from error


def _line_of(text: str, error: Exception) -> int:
    place = getattr(error, "position", None)
    return 1 + text.count("\n", 0, place) if isinstance(place, int) else 0


class _Open:
    """An open list or mapping; the `parts` of a mapping are keys and values in turn."""

    __slots__ = ("anchor", "before", "node", "parts")

    def __init__(self, node: yaml.CollectionNode, anchor: str | None, before: int) -> None:
        self.node, self.anchor, self.before = node, anchor, before
        self.parts: list[yaml.Node] = []


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader with a composer that counts nodes and does not recurse."""

    def compose_within(self, most: int) -> yaml.Node | None:
        """The node of the only document; None if there is none."""
        self.get_event()
        if self.check_event(yaml.StreamEndEvent):
            return None
        self.get_event()
        node = self._compose(most)
        self.get_event()
        if not self.check_event(yaml.StreamEndEvent):
            raise _refusal("a second document begins here; only one is allowed", self.get_event().start_mark)
        return node

    def _compose(self, most: int) -> yaml.Node:
        # Anchor -> the node and the number of nodes in it; None while it is open.
        anchors: dict[str, tuple[yaml.Node, int] | None] = {}
        opened: list[_Open] = []
        count = 0
        while True:
            event = self.get_event()
            kind = type(event)
            if kind is yaml.ScalarEvent:
                count += 1
                node: yaml.Node = self._scalar(event)
                if event.anchor is not None:
                    anchors[event.anchor] = (node, 1)
            elif kind is yaml.AliasEvent:
                found = anchors.get(event.anchor, ())
                if not found:
                    what = f"*{event.anchor} refers to a value that contains it" if found is None else "no such anchor"
                    raise _refusal(what, event.start_mark)
                node, weight = found
                count += weight
            elif kind is yaml.SequenceStartEvent or kind is yaml.MappingStartEvent:
                count += 1
                if len(opened) == DEPTH:
                    raise _refusal(f"nested more than {DEPTH} deep", event.start_mark)
                if event.anchor is not None:
                    anchors[event.anchor] = None
                opened.append(_Open(_collection(event), event.anchor, count))
                continue
            else:
                ended = opened.pop()
                node = self._close(ended, event.end_mark)
                if ended.anchor is not None:
                    anchors[ended.anchor] = (node, count - ended.before + 1)
            if count > most:
                raise _refusal(f"more than {most} values, with aliases expanded", event.start_mark)
            if not opened:
                return node
            opened[-1].parts.append(node)

    def _scalar(self, event: Any) -> yaml.ScalarNode:
        tag, value = event.tag, event.value
        if tag is None or tag == "!":
            tag = _resolved(value) if event.implicit[0] else _TEXT
        if tag in _NUMBERS:
            if len(value) > NUMBER_LENGTH:
                raise _refusal(f"a number of more than {NUMBER_LENGTH} characters", event.start_mark)
            if _resolved(value) not in (tag, *((_INTEGER,) if tag == _FLOAT else ())):
                # PyYAML's constructors fail in various ways on values that its own patterns accept.
                raise _refusal(f"{value!r} is not a valid {tag.removeprefix(_PREFIX)}", event.start_mark)
        elif tag not in (_TEXT, _MERGE):
            raise _refusal(f"the tag {tag.replace(_PREFIX, '!!')[:40]} is not allowed", event.start_mark)
        return yaml.ScalarNode(tag, value, event.start_mark, event.end_mark, style=event.style)

    def _close(self, ended: _Open, end: Any) -> yaml.Node:
        node, parts = ended.node, ended.parts
        node.end_mark = end
        if isinstance(node, yaml.SequenceNode):
            node.value = parts
            return node
        seen = set()
        for key in parts[::2]:
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("a key must be a word", key.start_mark)
            if key.tag not in (_TEXT, _MERGE):
                raise _refusal(f"the key {key.value} is not text; write it in quotes", key.start_mark)
            if key.value in seen:
                raise _refusal(f"the key {key.value[:_WORD_LENGTH]} occurs twice", key.start_mark)
            seen.add(key.value)
        node.value = list(zip(parts[::2], parts[1::2], strict=True))
        return node

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        value: float = super().construct_yaml_float(node)
        if math.isinf(value) and node.value.lower() not in _INFINITE:
            raise _refusal(f"{node.value} is too large for a number; write .inf for infinity", node.start_mark)
        return value


_Loader.add_constructor(_FLOAT, _Loader.construct_yaml_float)


def _collection(event: Any) -> yaml.CollectionNode:
    kind, own = (
        (yaml.SequenceNode, _LIST) if isinstance(event, yaml.SequenceStartEvent) else (yaml.MappingNode, _MAPPING)
    )
    if event.tag not in (None, "!", own):
        raise _refusal(f"the tag {event.tag.replace(_PREFIX, '!!')[:40]} is not allowed here", event.start_mark)
    return kind(own, [], event.start_mark, None, flow_style=event.flow_style)


def _refusal(what: str, mark: Any) -> ConstructorError:
    return ConstructorError(None, None, what, mark)


# Keys, and numbers such as 0, repeat often.
@lru_cache(4096)
def _resolved_word(value: str) -> str:
    for tag, pattern in _PATTERNS.get(value[:1], ()):
        if pattern.match(value):
            # Octal (010) and base-60 (1:30) numbers are text, because they are hardly ever intended.
            octal = tag.endswith(":int") and value.lstrip("+-").startswith("0") and value.strip("+-0_")[:1].isdigit()
            return _TEXT if octal or ":" in value else tag
    return _TEXT


# Dates are text, and so is a single `=`.
_PATTERNS = {
    first: [(tag, pattern) for tag, pattern in known if tag.removeprefix(_PREFIX) not in ("timestamp", "value")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _resolved(value: str) -> str:
    # Only text is that long; skip the resolver's patterns, which would search all of it.
    return _resolved_word(value) if len(value) <= 2 * NUMBER_LENGTH else _TEXT
