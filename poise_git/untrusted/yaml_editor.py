"""Edit settings files: set fields, and leave the rest of the text unchanged, including comments.

ruamel.yaml rewrites only the lines of a changed field, and keeps their comments, order and quotes. The text is
untrusted, so it is first read within the limits of `yaml_text`. The result is read again, to check that only the given
fields have changed, and that no comment is lost.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from textwrap import dedent, indent
from typing import Any, NamedTuple

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, SingleQuotedScalarString

from poise_git.untrusted.yaml_text import SETTINGS, BadYaml, parse

_QUOTED = {'"': DoubleQuotedScalarString, "'": SingleQuotedScalarString}
_COMMENT = re.compile(r"#[^\r\n\x85\u2028\u2029]*")
_NULL, _FLOAT = "tag:yaml.org,2002:null", "tag:yaml.org,2002:float"


class _Representer(RoundTripRepresenter):
    """Write None as `null`, and numbers in the form of YAML 1.1: 1e-6 is 1.0e-06."""


_Representer.add_representer(type(None), lambda representer, _: representer.represent_scalar(_NULL, "null"))
_Representer.add_representer(float, lambda representer, data: representer.represent_scalar(_FLOAT, _scalar(data)))


def with_fields(text: str, fields: Mapping[tuple[str, ...], Any]) -> str:
    """A settings file with other values of some fields (path of keys -> plain data).

    A field that the file does not have is added at the end of its section, and a section at the end of the file.

    Raises:
        BadYaml: the file is not a mapping, exceeds the limits, or has a form in which these fields cannot be set alone.
    """
    expected = _mapping_in(text)
    changed = text
    try:
        for path, value in fields.items():
            _set(expected, path, value)
            changed = _with_field(changed, path, value)
        alone = _mapping_in(changed) == expected and _comments(text) <= _comments(changed)
    except (BadYaml, YAMLError):
        alone = False
    if not alone:
        raise BadYaml(0, f"{', '.join('.'.join(path) for path in fields)} cannot be set alone; edit the file by hand")
    return changed


def _comments(text: str) -> Counter[str]:
    """The comments of a text: they begin with a number sign between two tokens, and end with the line."""
    found: Counter[str] = Counter()
    end = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        between = text[end : token.start_mark.index]
        found.update(comment.strip() for comment in _COMMENT.findall(between))
        end = max(end, token.end_mark.index)
    return found


def _mapping_in(text: str) -> dict[str, Any]:
    """The data of a text, with a separate copy for every alias."""
    data = parse(text, SETTINGS).data
    if not isinstance(data, dict | None):
        raise BadYaml(1, "expected `field: value` lines")
    return {key: _copied(value) for key, value in (data or {}).items()}


def _copied(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _copied(value) for key, value in data.items()}
    return [_copied(value) for value in data] if isinstance(data, list | tuple) else data


def _set(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        if not isinstance(data.get(key), dict):
            data[key] = {}
        data = data[key]
    data[path[-1]] = _copied(value)


class _Lines(NamedTuple):
    """The lines `first` to `end` (not included) of a key in a block; for a missing key, both are its place.

    `column` is the column of the block's keys, `depth` the number of keys that lead to the block.
    """

    first: int
    end: int
    column: int
    depth: int


def _with_field(text: str, path: Sequence[str], value: Any) -> str:
    tree = parse(text, SETTINGS).tree
    lines = text.splitlines(keepends=True)
    if isinstance(tree, yaml.MappingNode) and tree.flow_style:
        found = _Lines(0, len(lines), 0, 0)
    else:
        found = _lines_of(tree, path, lines)
    own = dedent("".join(lines[found.first : found.end]).replace("\r\n", "\n"))
    edited = indent(_edited(own, path[found.depth :], value), " " * found.column)
    if found.first == found.end and found.first and not lines[found.first - 1].endswith("\n"):
        lines[found.first - 1] += "\n"
    elif own and not own.endswith("\n"):
        edited = edited.removesuffix("\n")
    if "\r\n" in text:
        edited = edited.replace("\n", "\r\n")
    return "".join([*lines[: found.first], edited, *lines[found.end :]])


def _lines_of(tree: yaml.Node | None, path: Sequence[str], lines: Sequence[str]) -> _Lines:
    """The lines of the deepest key on `path` that is in a block of separate lines."""
    end = len(lines)
    while end and lines[end - 1].startswith("..."):
        end -= 1
    node, column = tree, 0
    for depth, name in enumerate(path):
        keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        column = keys[0].start_mark.column if keys else 0
        place = next((place for place, key in enumerate(keys) if key.value == name), None)
        if place is None or not isinstance(node, yaml.MappingNode):
            return _Lines(end, end, column, depth)
        first = keys[place].start_mark.line
        end = keys[place + 1].start_mark.line if place + 1 < len(keys) else end
        while end > first + 1 and _is_of_what_follows(lines[end - 1], column):
            end -= 1
        node = node.value[place][1]
        if not isinstance(node, yaml.MappingNode) or node.flow_style or depth + 1 == len(path):
            return _Lines(first, end, column, depth)
    return _Lines(end, end, column, len(path))


def _is_of_what_follows(line: str, column: int) -> bool:
    """Whether a line after a key at `column` is empty, or a comment that is not indented more than the key."""
    text = line.lstrip(" ")
    return not text.strip() or (text.startswith("#") and len(line) - len(text) <= column)


def _edited(text: str, path: Sequence[str], value: Any) -> str:
    """The text of one mapping, with a new value of one field."""
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 10 * SETTINGS.characters
    editor.Representer = _Representer
    data = editor.load(text)
    data = top = CommentedMap() if data is None else data
    for key in path[:-1]:
        if not isinstance(data.get(key), Mapping) or not data[key]:
            data[key] = _node({})
        data = data[key]
    before = data.get(path[-1])
    quotes = next((kind for kind in _QUOTED.values() if isinstance(before, kind)), None)
    data[path[-1]] = quotes(value) if quotes and isinstance(value, str) else _node(value)
    written = StringIO()
    editor.dump(top, written)
    return written.getvalue()


def _node(value: Any) -> Any:
    """Plain data as nodes that ruamel.yaml writes on one line, with the quotes of YAML 1.1, where `yes` is not text."""
    if isinstance(value, Mapping):
        node: Any = CommentedMap((_node(key), _node(each)) for key, each in value.items())
    elif isinstance(value, list | tuple):
        node = CommentedSeq(map(_node, value))
    else:
        return _QUOTED.get(_scalar(value)[:1], str)(value) if isinstance(value, str) else value
    node.fa.set_flow_style()
    return node


def _scalar(value: Any) -> str:
    """A scalar as YAML writes it between brackets, where more texts need quotes."""
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=math.inf).strip()[1:-1]
