"""Check that every number in a text comes from the figures that it may cite."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

# A standalone number: not part of a name (chain-2, pass@8, v1.2), an arXiv id, or the number of a heading.
_NUMBER = re.compile(
    r"(?<![\w.@/:-])(?P<sign>[+\-−±]?)\s?(?P<digits>\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)"
    r"(?P<exponent>[eE][+-]?\d+)?(?P<percent>\s?%)?(?![\w@]|[.-]\w|:\d)"
)
_NUMBERING = re.compile(r"^\s*\d+[.)]\s", re.MULTILINE)
# Numbers that a text may always use: zero, one, and the level of an interval.
_WORDS = frozenset((0.0, 1.0))
_LEVEL = 95.0


def unsupported(text: str, figures: Iterable[float]) -> tuple[str, ...]:
    """The numbers of `text` that match none of `figures`, as written.

    A number matches any figure that rounds to it at its own digits; a percentage also matches the share. Signs are
    ignored: "fell by 0.02" cites a difference of -0.02.
    """
    known = sorted({abs(figure) for figure in figures if math.isfinite(figure)})
    return tuple(
        dict.fromkeys(cited for cited, value, unit in _cited(text) if not _is_known(value, unit, known, cited))
    )


def numbers_in(text: str) -> tuple[float, ...]:
    """Every number of a text, including those in names. A reply may cite the numbers of all texts in its prompt."""
    return tuple(float(found.replace(",", "")) for found in re.findall(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+", text))


def _cited(text: str) -> Iterator[tuple[str, float, float]]:
    """Each number as written, its magnitude, and the place value of its last digit."""
    for match in _NUMBER.finditer(_NUMBERING.sub("", text)):
        digits = match["digits"].replace(",", "")
        power = int((match["exponent"] or "e0")[1:])
        decimals = len(digits.partition(".")[2])
        yield match.group().strip(), float(digits) * 10.0**power, 10.0 ** (power - decimals)


def _is_known(value: float, unit: float, known: list[float], cited: str) -> bool:
    if cited.endswith("%"):
        return value == _LEVEL or any(
            abs(value - scale * figure) <= 0.5001 * unit for figure in known for scale in (1, 100)
        )
    return value in _WORDS or any(abs(value - figure) <= 0.5001 * unit for figure in known)
