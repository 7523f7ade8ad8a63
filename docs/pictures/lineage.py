"""Draw the tree of an archive: one line for each candidate, with its gain over the root and the 95% interval.

python docs/pictures/lineage.py ARCHIVE > docs/pictures/lineage.svg
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

# Pixels.
LINE, INDENT, MARGIN, CHARACTER = 26, 22, 16, 8.0
MECHANISM, PLOT = 420, 300
LONGEST_MECHANISM = 48
INK, FAINT, BETTER, WORSE = "#1f2328", "#8c959f", "#1a7f37", "#cf222e"
FONT = "font-family='ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace' font-size='13'"


@dataclass(frozen=True)
class Row:
    """A candidate of the tree: `gain` and `half` its interval, None at the root and where nothing is known."""

    name: str
    mechanism: str
    depth: int
    parent: int
    gain: float | None
    half: float | None
    best: bool

    @property
    def color(self) -> str:
        if self.gain is None or self.half is None or abs(self.gain) <= self.half:
            return FAINT
        return BETTER if self.gain > 0 else WORSE


def rows_of(archive: str) -> list[Row]:
    candidates, best = ask(archive, "log"), ask(archive, "best")["name"]
    rows: list[Row] = []

    def add(candidate: dict[str, Any], depth: int, parent: int) -> None:
        gain = (candidate["metrics"] or {}).get("gain") or {}
        name = candidate["name"]
        mechanism = candidate["mechanism"].partition(":")[0] if not candidate["parents"] else candidate["mechanism"]
        rows.append(Row(name, mechanism, depth, parent, gain.get("value"), gain.get("interval"), name == best))
        place = len(rows) - 1
        for child in candidates:
            if child["parents"][:1] == [name]:
                add(child, depth + 1, place)

    for root in candidates:
        if not root["parents"]:
            add(root, 0, -1)
    return rows


def ask(archive: str, verb: str) -> Any:
    command = [sys.executable, "-m", "poise_git", "-C", archive, verb, "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def picture(rows: Sequence[Row]) -> Iterator[str]:
    names = max(INDENT * row.depth + CHARACTER * len(row.name) for row in rows)
    width, height = 2 * MARGIN + names + MECHANISM + PLOT, 2 * MARGIN + LINE * (len(rows) + 1)
    reach = max([abs(row.gain) + (row.half or 0.0) for row in rows if row.gain is not None], default=1.0)
    zero, scale = MARGIN + names + MECHANISM + PLOT / 2, PLOT / 2 / reach
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" role="img" {FONT}>'
    yield f"<title>Candidates of a search, and their gains over {escape(rows[0].name)}</title>"
    yield f'<rect width="{width:g}" height="{height}" fill="#ffffff"/>'
    yield line(zero, MARGIN + LINE, zero, height - MARGIN, FAINT, "stroke-dasharray='3 3'")
    yield text(zero, MARGIN + 12, f"gain over {rows[0].name}, 95% interval", FAINT, "text-anchor='middle'")
    for place, row in enumerate(rows):
        x, y = MARGIN + INDENT * row.depth, MARGIN + LINE * (place + 1.5)
        if row.parent >= 0:
            above = MARGIN + LINE * (row.parent + 1.5) + 8
            yield line(x - INDENT / 2, above, x - INDENT / 2, y, FAINT)
            yield line(x - INDENT / 2, y, x - 4, y, FAINT)
        weight = "font-weight='bold'" if row.best else ""
        yield text(x, y + 4, row.name, INK, weight)
        yield text(MARGIN + names + INDENT, y + 4, shortened(row.mechanism), INK)
        if row.gain is not None:
            middle, half = zero + scale * row.gain, scale * (row.half or 0.0)
            yield line(middle - half, y, middle + half, y, row.color, "stroke-width='2'")
            yield f'<circle cx="{middle:.1f}" cy="{y:.1f}" r="4" fill="{row.color}"/>'
            if row.best:
                yield text(middle + half + 8, y + 4, "best", row.color, weight)
    yield "</svg>"


def shortened(words: str) -> str:
    return words if len(words) <= LONGEST_MECHANISM else words[: LONGEST_MECHANISM - 1].rstrip() + "…"


def line(x: float, y: float, to_x: float, to_y: float, color: str, more: str = "") -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{color}" {more}/>'


def text(x: float, y: float, words: str, color: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" {more}>{escape(words)}</text>'


if __name__ == "__main__":
    print("\n".join(picture(rows_of(sys.argv[1]))))
