"""The notation of an answer: one spelling for equivalent notations, numbers with units, and collections.

It works on text alone, in time linear in its length, so it may run outside the processes with a time limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Literal

_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"−|–", "-"),
        (r"\\?\$|(?<!\\)\\!|\\displaystyle(?![a-zA-Z])|\\(?:left|right)(?![a-zA-Z])\.?", ""),
        (r"(?<!\\)\\[,;: ]|\\q?quad(?![a-zA-Z])|~", " "),
        (r"\{,\}", ","),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\(?:mathrm|mbox|textbf|textrm|mathbf|operatorname)(?![a-zA-Z])\s*(?=\{)", r"\\text"),
        (r"\\text\s*\{\s*(?:or|and|,)\s*\}|\s(?:or|and)\s", ","),
        (r"\\%", "%"),
        (r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![a-zA-Z])|\\degree(?![a-zA-Z])|°", r"\\text{degree}"),
        (r"(?<![a-zA-Z])np\.(?=[a-z])", r"\\"),
        (r"(?<=\d)\.(?=/|$)", ""),
        (r"(?<=\d)[eE](?=[-+]?\d)", r"\\times 10^"),
        (r"\\times\s*10\^([-+]?\d+)", r"\\times 10^{\1}"),
        (r"\\le(?![a-zA-Z])", r"\\leq"),
        (r"\\ge(?![a-zA-Z])", r"\\geq"),
        (r"\s+", " "),
    )
)
_TEXT = re.compile(r"\\text\s?\{([^{}]*)\}")
# The number stands at the beginning, because `_REWRITES` has removed a currency sign.
_NUMBER = re.compile(
    r"(?P<sign>[-+]?)\s?(?P<whole>\d{1,3}(?:,\s?\d{3})+|\d*)(?P<decimals>\.\d+)?"
    r"(?:\s?(?:\\times|\\cdot|\*)\s?10\s?\^\s?(?:\{\s?(?P<exponent>[-+]?\s?\d{1,6})\s?\}|(?P<digit>\d)(?!\d)))?"
    r"\s?(?P<unit>%|(?:\\text\s?\{[^{}]*\}|\s[a-zA-Z]+\.?)(?:\s?\^\s?\{?[-+]?\d\}?)?)?"
)
_POWER_OF_TEN = re.compile(r"(?P<sign>[-+]?)\s?10\s?\^\s?(?:\{\s?(?P<exponent>[-+]?\s?\d{1,6})\s?\}|(?P<digit>\d))")
_NAME = r"(?:[a-zA-Z]|\\[a-zA-Z]+)(?:_(?:\w|\{[^{}]*\}))?(?:\([a-zA-Z, ]*\))?"
_ASSIGNMENT = re.compile(rf"\s*{_NAME}(?:\s*\+\s*{_NAME})*\s*(?:=|\\in(?![a-zA-Z]))(?!=)\s*")
_SUBSCRIPT = re.compile(r"\d\s*\}?\s*_\s*(?:\{\s*(\d+)\s*\}|(\d+))")
_UNEVALUATED = re.compile(r"(?<=[\w)}!\]])\s*(?:[-+*]|\\(?:times|cdot|div|pm)(?![a-zA-Z]))|\d\s*\(")
_ARITHMETIC = Context(prec=60, Emax=9_999_999, Emin=-9_999_999, traps=[])


@dataclass(frozen=True)
class Quantity:
    """A number that is written out, with its unit as written or "". A percent sign is a unit, never a factor."""

    value: Decimal
    unit: str

    def equals(self, other: Quantity, relative_tolerance: float) -> bool:
        """Whether the values agree, and the units if both have one. The tolerance is relative to this value."""
        if self.unit and other.unit and self.unit != other.unit:
            return False
        if not relative_tolerance or not self.value:
            return self.value == other.value
        difference = _ARITHMETIC.abs(_ARITHMETIC.subtract(self.value, other.value))
        allowed = _ARITHMETIC.multiply(_ARITHMETIC.abs(self.value), Decimal(repr(relative_tolerance)))
        return difference <= allowed


@dataclass(frozen=True)
class Collection:
    """Several answers: ordered in parentheses or brackets, unordered in braces or without brackets."""

    kind: Literal["ordered", "set", "list"]
    brackets: str
    items: tuple[str, ...]


def normal_form(answer: str) -> str:
    """The same answer in one spelling: no spacing or sizing commands, one name for each command."""
    for pattern, replacement in _REWRITES:
        answer = pattern.sub(replacement, answer)
    answer = answer.strip().rstrip(".,;").strip()
    words = _TEXT.fullmatch(answer)
    return words[1].strip() if words else answer


def text_form(normal: str) -> str:
    """A normal form as bare text, to compare words: without spaces, \\text and the braces of its arguments."""
    text = _TEXT.sub(r"\1", normal).replace(" ", "").casefold()
    return re.sub(r"_\{(\w)\}", r"_\1", text)


def quantity(normal: str) -> Quantity | None:
    """The number of a normal form that is only a number, with its unit if any; None for any other."""
    match = _POWER_OF_TEN.fullmatch(normal)
    if match:
        digits = f"{match['sign']}1"
    else:
        match = _NUMBER.fullmatch(normal)
        if not match or not (match["whole"] or match["decimals"]):
            return None
        digits = match["sign"] + match["whole"].replace(",", "").replace(" ", "") + (match["decimals"] or "")
    exponent = (match["exponent"] or match["digit"] or "0").replace(" ", "")
    return Quantity(Decimal(f"{digits}e{exponent}"), _unit(match.groupdict().get("unit") or ""))


def collection(normal: str) -> Collection | None:
    """The parts of a normal form that is a tuple, an interval, a set or a list; None for any other."""
    if "\\begin" in normal or "\\cup" in normal or "\\cap" in normal:
        return None
    pairs = _brackets(normal)
    if pairs is None:
        return None
    opening = 1 if normal[:1] == "\\" else 0
    if normal and pairs.get(opening) == len(normal) - 1 and normal[opening] in "([{":
        is_set = normal[opening] == "{"
        if is_set and opening == 0:
            return collection(normal[1:-1])
        inside = normal[opening + 1 : -2 if is_set else -1]
        items = _split(inside)
        if not is_set and len(items) == 1:
            return None
        return Collection("set" if is_set else "ordered", normal[opening] + normal[-1], items)
    items = _split(normal)
    return Collection("list", "", items) if len(items) > 1 else None


def without_name(normal: str) -> str:
    """The value assigned to a name or a sum of names (`x = 7`, `m + n = 7`, `f(x) = 2x`); else the whole text."""
    match = _ASSIGNMENT.match(normal)
    rest = normal[match.end() :] if match else ""
    return rest if rest and "=" not in rest else normal


def bases(normal: str) -> tuple[str, ...]:
    """The bases that mark numbers, as in `11_8`, except base ten, which is the same as no mark."""
    return tuple(base for pair in _SUBSCRIPT.findall(normal) for base in pair if base and base != "10")


def is_unevaluated(normal: str) -> bool:
    """Whether an addition, subtraction, multiplication or division remains to be done, as in `6 + 1`."""
    return bool(_UNEVALUATED.search(normal))


def _unit(written: str) -> str:
    unit = re.sub(r"\\text|[{}\s.^]", "", written).casefold()
    return unit.removesuffix("s") if len(unit) > 2 else unit


def _brackets(text: str) -> dict[int, int] | None:
    """Map each opening bracket's position to its closing one's; ( may pair with ]. None if they are unbalanced."""
    ends: dict[int, int] = {}
    opened: list[int] = []
    for position, character in enumerate(text):
        if character in "([{":
            opened.append(position)
        elif character in ")]}":
            if not opened or (text[opened[-1]] == "{") != (character == "}"):
                return None
            ends[opened.pop()] = position
    return ends if not opened else None


def _split(text: str) -> tuple[str, ...]:
    """The parts between commas outside brackets; `a \\pm b` is two parts. Thousands are one number."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character in ",;" and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    items = [part.strip() for part in parts if part.strip()]
    return tuple(
        variant
        for item in items
        for variant in ((item.replace("\\pm", "+", 1), item.replace("\\pm", "-", 1)) if "\\pm" in item else (item,))
    )
