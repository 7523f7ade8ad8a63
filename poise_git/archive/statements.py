"""Knobs and claims as paragraphs of a commit message, which people can write and the reader parses exactly.

    Knobs:
    - scale.kappa = 0.5

    Claims:
    - At kappa = 0 it is the parent. [reduction function=scale argument=kappa value=0]
    - Mean advantages rise with the outcome. [order levels=invalid,valid-wrong,correct]
    - Utility rises against the parent. [effect figure=utility direction=up]
    - It is robust to outliers.

An entry begins with `-` or `*` and may span several lines. The brackets at the end of a claim name the check that
decides it and the check's arguments: words, words joined by commas, or JSON. A code review decides a claim without
brackets. Knobs may also be on one line, separated by commas, and `:` may replace `=`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from poise_git.archive.entries import Claim
from poise_git.untrusted.display import json_text, one_line

KNOBS, CLAIMS = "Knobs:", "Claims:"
# The check of a claim that does not name one: a code review decides.
READING = "reading"

LABEL = re.compile(r"(knobs?|claims?):(?!\S)[ ]*", re.IGNORECASE)
_BULLET = re.compile(r"[-*] +|[-*]$")
_CHECK = re.compile(r"[A-Za-z][\w-]*")
_OUTSIDE_NAMES = re.compile(r"[^\w-]+|^[^A-Za-z]+")
_WORD = r"[A-Za-z_][\w.-]*+"
_KEY = re.compile(rf"{_WORD}")
# Words joined by commas; a word followed by `=` is the next argument.
_WORDS = re.compile(rf"{_WORD}(?:[ ]*,[ ]*{_WORD}(?![ ]*=))*+")
_GAP = re.compile(r"[ ,]*")
_BLANKS = re.compile(r"[ ]*")
_NUMBER = re.compile(r"[^\s,;]+")
_AFTER_NUMBER = re.compile(r"[\s,;]*")
# The message is untrusted, so try at most this many brackets of one entry.
_BRACKETS = 1000
_DEPTH = 16
_LARGEST = 10**64
_JSON_WORDS = frozenset(("true", "false", "null", "NaN", "Infinity"))
_DECODER = json.JSONDecoder()


class _Unreadable(ValueError):
    """Text of an unexpected form."""


def format_knobs(knobs: Mapping[str, float]) -> str:
    """One line per knob."""
    return "\n".join(f"- {_format_key(name)} = {_format_number(value)}" for name, value in knobs.items())


def format_claims(claims: Iterable[Claim]) -> str:
    """One line per claim. Arguments are stored as JSON, so a tuple is read back as a list."""
    return "\n".join(f"- {_format_claim(claim)}" for claim in claims)


def parse_knobs(text: str) -> tuple[dict[str, float], tuple[str, ...]]:
    """The knobs in `text`, and its invalid entries."""
    knobs: dict[str, float] = {}
    unreadable = []
    for entry in _entries(text):
        place = 0
        try:
            while place < len(entry):
                name, place = _parse_key(entry, place)
                place = _expect(entry, place, "=:")
                found = _NUMBER.match(entry, place)
                knobs[name] = float(found[0] if found else "")
                place = _end(_AFTER_NUMBER, entry, found.end() if found else place)
        except ValueError:
            unreadable.append(entry)
    return knobs, tuple(unreadable)


def parse_claims(text: str) -> tuple[Claim, ...]:
    """The claims in `text`."""
    return tuple(_parse_claim(entry) for entry in _entries(text) if entry)


def _entries(text: str) -> Iterator[str]:
    """Entries with their continuation lines; text before the first bullet is also an entry."""
    entry: list[str] = []
    for line in text.split("\n"):
        stripped = line.strip(" \t")
        if (bullet := _BULLET.match(stripped)) and entry:
            yield " ".join(entry)
            entry = []
        entry += [part] if (part := stripped[bullet.end() :] if bullet else stripped) else []
    if entry:
        yield " ".join(entry)


def _format_claim(claim: Claim) -> str:
    check = _OUTSIDE_NAMES.sub("-", claim.check).strip("-")
    plain: dict[str, Any] = json.loads(json.dumps(dict(claim.arguments), default=str))
    arguments = "".join(f" {_format_key(name)}={_format_value(value)}" for name, value in plain.items())
    statement = one_line(claim.statement)
    return f"{statement} [{check if _CHECK.fullmatch(check) else READING}{arguments}]".lstrip(" ")


def _parse_claim(entry: str) -> Claim:
    """Parse a claim: its check is in the last brackets that hold a check with arguments.

    A pair of brackets inside these cannot match, because brackets or quotes of JSON would remain.
    """
    place = len(entry) if entry.endswith("]") else 0
    for _ in range(_BRACKETS):
        place = entry.rfind("[", 0, place)
        if place < 0:
            break
        try:
            check, arguments = _parse_check(entry[place + 1 : -1])
        except (ValueError, RecursionError):
            continue
        return Claim(" ".join(entry[:place].split()), check, arguments)
    return Claim(" ".join(entry.split()), READING)


def _parse_check(text: str) -> tuple[str, dict[str, Any]]:
    """`name key=value ...`."""
    name = _CHECK.match(text.lstrip(" "))
    if name is None:
        raise _Unreadable
    arguments: dict[str, Any] = {}
    rest = text.lstrip(" ")[name.end() :].removeprefix(":")
    if rest and not rest.startswith((" ", ",")):
        raise _Unreadable
    place = _end(_GAP, rest, 0)
    while place < len(rest):
        key, place = _parse_key(rest, place)
        arguments[key], place = _parse_value(rest, _expect(rest, place, "="))
        if place < len(rest) and rest[place] not in " ,":
            raise _Unreadable
        place = _end(_GAP, rest, place)
    return name[0], arguments


def _parse_key(text: str, place: int) -> tuple[str, int]:
    if text.startswith('"', place):
        key, place = _DECODER.raw_decode(text, place)
        return str(key), place
    found = _KEY.match(text, place)
    if found is None:
        raise _Unreadable
    return found[0], found.end()


def _parse_value(text: str, place: int) -> tuple[Any, int]:
    if (found := _WORDS.match(text, place)) and found[0] not in _JSON_WORDS:
        words = re.split(r" *, *", found[0])
        return (words if len(words) > 1 else words[0]), found.end()
    value, end = _DECODER.raw_decode(text, place)
    if _exceeds(value, _DEPTH):
        raise _Unreadable
    return value, end


def _exceeds(value: Any, depth: int) -> bool:
    """Whether a value is nested more deeply than an argument needs, or contains a longer number."""
    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return depth == 0 or any(_exceeds(each, depth - 1) for each in inner)
    return isinstance(value, int) and abs(value) >= _LARGEST


def _expect(text: str, place: int, signs: str) -> int:
    """The position after one of the signs and the spaces around it."""
    place = _end(_BLANKS, text, place)
    if place >= len(text) or text[place] not in signs:
        raise _Unreadable
    return _end(_BLANKS, text, place + 1)


def _end(pattern: re.Pattern[str], text: str, place: int) -> int:
    """The position after the match of the pattern at `place`."""
    found = pattern.match(text, place)
    return found.end() if found else place


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value not in _JSON_WORDS and _KEY.fullmatch(value) is not None


def _format_key(name: str) -> str:
    return name if _KEY.fullmatch(name) else json_text(name)


def _format_value(value: Any) -> str:
    if _is_word(value):
        return str(value)
    if isinstance(value, list) and len(value) > 1 and all(map(_is_word, value)):
        return ",".join(value)
    return json_text(value, separators=(",", ":"))


def _format_number(value: float) -> str:
    return repr(float(value)).removesuffix(".0")
