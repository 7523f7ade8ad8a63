"""Numbers in a text, and whether each is one of those it may cite."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

# A number that stands alone: not part of a name (chain-2, pass@8, v1.2), of an arXiv id, or of a heading's numbering.
_NUMBER = re.compile(
    r"(?<![\w.@/:-])(?P<sign>[+\-−±]?)\s?(?P<digits>\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)"
    r"(?P<exponent>[eE][+-]?\d+)?(?P<percent>\s?%)?(?![\w@]|[.-]\w|:\d)"
)
_NUMBERING = re.compile(r"^\s*\d+[.)]\s", re.MULTILINE)
# What a text may say without its being a figure: none and one; and the level of an interval.
_WORDS = frozenset((0.0, 1.0))
_LEVEL = 95.0


def unsupported(text: str, figures: Iterable[float]) -> tuple[str, ...]:
    """The numbers of `text` that are none of `figures`, as they stand in it.

    A cited number supports itself by any figure that rounds to it at the digits it is given with; a percentage by the
    share it stands for as well. Signs are not compared: "fell by 0.02" cites a difference of -0.02.
    """
    known = sorted({abs(figure) for figure in figures if math.isfinite(figure)})
    return tuple(
        dict.fromkeys(cited for cited, value, unit in _cited(text) if not _is_known(value, unit, known, cited))
    )


def numbers_in(text: str) -> tuple[float, ...]:
    """Every number of a text, those in names as well: what a text that is shown makes citable."""
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
