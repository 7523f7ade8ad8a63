"""Committed documents: YAML, and Markdown with YAML front matter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import yaml

from poise_git.archive.collection import gc_paused
from poise_git.archive.entries import Reflection
from poise_git.archive.facts import TABLES, ReflectionFacts
from poise_git.errors import ArchiveError
from poise_git.untrusted.display import visible
from poise_git.untrusted.yaml_text import BadYaml, parse

_FENCE = "---\n"
_TEXT = "tag:yaml.org,2002:str"
_NAME = re.compile(r"[A-Za-z0-9_.@/-]{1,60}")


class _Dumper(yaml.SafeDumper):
    """Multi-line text as a block, so that its diff reads as text; unusual text in quotes, with escapes."""


class _QuickDumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """The same with libyaml, four times as fast. Use it only for text without escapes, which it folds differently."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if text.isascii() and text.isprintable():
        # Almost all text of a plan: names, which no rule below concerns.
        return dumper.represent_scalar(_TEXT, text)
    # YAML cannot represent a lone surrogate.
    text = text.encode(errors="backslashreplace").decode()
    lines = text.split("\n")
    style = None
    if visible(text) != text or not all(line.isprintable() for line in lines):
        style = '"'
    elif len(lines) > 1 and lines[0] and all(line == line.strip() for line in lines):
        style = "|"
    return dumper.represent_scalar(_TEXT, text, style=style)


_Dumper.add_representer(str, _represent_text)
_QuickDumper.add_representer(str, _represent_text)


@gc_paused()
def dump_yaml(data: Mapping[str, Any]) -> str:
    """Plain data as YAML, in the given order.

    Raises ArchiveError if a part of it is not plain data.
    """
    try:
        if not data:
            return _dump(data, _Dumper)
        # A plan consists mostly of numbers, the terms of every candidate. Only its prose needs the slow dumper.
        parts = groupby(data.items(), key=_is_simple)
        text = "".join(_dump(dict(part), _QuickDumper if simple else _Dumper) for simple, part in parts)
        # Two parts would use the same names for anchors, and a part may end with the end of a document.
        return _dump(data, _Dumper) if "&id001" in text or "\n...\n" in text else text
    except yaml.YAMLError as error:
        raise ArchiveError(f"not plain data, so it cannot be stored as YAML: {_one_line(error)}") from error


def _dump(data: Mapping[str, Any], dumper: type[yaml.SafeDumper]) -> str:
    return str(yaml.dump(data, Dumper=dumper, sort_keys=False, allow_unicode=True, width=110))


def _is_simple(value: Any) -> bool:
    """Whether all text in a value is ASCII on one line, which needs no escapes."""
    if isinstance(value, str):
        return value.isascii() and value.isprintable()
    if isinstance(value, Mapping):
        # Only one of the two emitters writes a question mark before empty and long keys.
        names = (isinstance(key, str) and _NAME.fullmatch(key) for key in value)
        return all(names) and all(map(_is_simple, value.values()))
    return not isinstance(value, list | tuple) or all(map(_is_simple, value))


@gc_paused()
def load_yaml(text: str, file: str) -> dict[str, Any]:
    """The mapping that `text`, the content of `file`, holds.

    Raises:
        ArchiveError: it is not YAML, is not a mapping with text keys, or exceeds the limits.
    """
    try:
        data = parse(text).data
    except BadYaml as error:
        raise ArchiveError(f"{file}:{error.line}: {error.what}" if error.line else f"{file}: {error.what}") from error
    if not isinstance(data, dict):
        raise ArchiveError(f"{file}:1: expected `field: value` lines")
    return data


def load_field(text: str, field: str, file: str) -> Any:
    """One top-level field of a document that `dump_yaml` wrote, without reading the rest; None if there is none.

    Raises:
        ArchiveError: it is not YAML, or exceeds the limits.
    """
    # Only a field's name stands at the start of a line: nested content is indented or begins with `-`.
    found = re.search(rf"^{re.escape(field)}:.*?(?=^[^\s#-]|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return load_yaml(found[0], file).get(field) if found else None


def dump_reflection(reflection: Reflection) -> str:
    """Front matter with the facts except their tables, then the prose with invisible characters escaped.

    People read this file, and `git show` prints it unchanged. The tables have their own file.
    """
    facts = {name: value for name, value in reflection.facts.to_data().items() if name not in TABLES}
    return f"{_FENCE}{dump_yaml(facts)}{_FENCE}\n{visible(reflection.prose)}\n"


def dump_tables(reflection: Reflection) -> str:
    """The tables among the facts; "" if there are none."""
    tables = {name: value for name, value in reflection.facts.to_data().items() if name in TABLES}
    return dump_yaml(tables) if tables else ""


def load_reflection(text: str, file: str, tables: str | None = None, tables_file: str = "") -> Reflection:
    """Read the files that `dump_reflection` and `dump_tables` wrote and a person may have edited.

    Older archives have no file of tables: their front matter holds all facts.

    Raises:
        ArchiveError: the front matter is missing, or the front matter or the tables are broken.
    """
    head, fence, _ = text.removeprefix(_FENCE).partition(f"\n{_FENCE}")
    if not text.startswith(_FENCE) or not fence:
        raise ArchiveError(f"{file}: expected front matter between two lines `---`")
    # The last value may be a block scalar, which includes its line end.
    facts = load_yaml(f"{head}\n", file)
    stated = {**facts, **(load_yaml(tables, tables_file) if tables else {})}
    return Reflection(ReflectionFacts.from_data(stated), prose_of(text))


def prose_of(text: str) -> str:
    """The prose of a reflection, without parsing its front matter; "" if that is missing."""
    _, _, prose = text.removeprefix(_FENCE).partition(f"\n{_FENCE}")
    return prose.removeprefix("\n").removesuffix("\n")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
