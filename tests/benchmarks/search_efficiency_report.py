"""Tables (YAML) and a figure from searches: every comparison in the same worlds, with 95% intervals over worlds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tests.benchmarks.search_efficiency import Search

Array = NDArray[np.float64]

BOOTSTRAP = 2000
DEFAULT = "tree"
# The levels of true utility to which evaluations are counted, as shares of the optimum.
LEVELS = (0.5, 0.8)


def write_report(searches: Sequence[Search], folder: Path) -> None:
    """FOLDER/report.yaml and FOLDER/curves.png; prints the tables."""
    cells: dict[tuple[str, float], dict[str, dict[int, Search]]] = {}
    for found in searches:
        cells.setdefault((found.landscape, found.noise), {}).setdefault(found.policy, {})[found.world] = found
    document = [_cell(landscape, noise, cells[landscape, noise]) for landscape, noise in sorted(cells)]
    (folder / "report.yaml").write_text(yaml.safe_dump(document, sort_keys=False, width=120))
    for cell in document:
        print(f"{cell['landscape']}, noise {cell['noise']}, {cell['worlds']} worlds")
        for name, row in cell["policies"].items():
            best, less = row["best"], row["default_less_this"]
            compared = "" if less is None else f"   {DEFAULT} - this {less['value']:+.3f} ± {less['interval']:.3f}"
            print(f"  {name:26s} {best['value']:.3f} ± {best['interval']:.3f}{compared}")
        print(f"  evaluations of {DEFAULT} to the final level of the best other: {cell['evaluations_to_best_other']}")
    _draw(cells, folder / "curves.png")


def _cell(landscape: str, noise: float, policies: Mapping[str, Mapping[int, Search]]) -> dict[str, Any]:
    worlds = sorted(set.intersection(*(set(found) for found in policies.values())))
    curves = {name: _curves(found, worlds) for name, found in policies.items()}
    default = curves.get(DEFAULT)
    rows = {}
    for name, curve in sorted(curves.items(), key=lambda entry: -float(entry[1][:, -1].mean())):
        reported = np.array([policies[name][world].chosen[-1] for world in worlds])
        foreseen = [policies[name][world].correlation for world in worlds]
        rows[name] = {
            "best": _interval(curve[:, -1]),
            "reported": _interval(reported),
            "area": _interval(curve[:, 1:].mean(axis=1)),
            "evaluations_to": {level: _interval(_first(curve, level)) for level in LEVELS},
            "default_less_this": None if default is None or name == DEFAULT else _interval((default - curve)[:, -1]),
            "correlation_with_potential": _interval(np.array([value for value in foreseen if value is not None])),
        }
    return {
        "landscape": landscape,
        "noise": noise,
        "worlds": len(worlds),
        "evaluations_to_best_other": _to_best_other(curves),
        "policies": rows,
    }


def _curves(found: Mapping[int, Search], worlds: Sequence[int]) -> Array:
    """The best true utility so far, (worlds, evaluations + 1), the root first.

    A search with replications has fewer candidates; its last best value is repeated to the end.
    """
    width = max(len(found[world].chosen) for world in worlds)
    rows = [np.maximum.accumulate(found[world].true) for world in worlds]
    return np.array([np.pad(row, (0, width - len(row)), mode="edge") for row in rows])


def _first(curve: Array, level: float) -> Array:
    """Evaluations until the level is reached (worlds,); one more than the total if it never is."""
    reached = curve >= level
    return np.where(reached.any(axis=1), reached.argmax(axis=1), curve.shape[1]).astype(float)


def _to_best_other(curves: Mapping[str, Array]) -> dict[str, Any] | None:
    """The number of evaluations after which the default's mean reaches the final mean of the best other policy."""
    others = {name: curve for name, curve in curves.items() if not name.startswith(DEFAULT)}
    if DEFAULT not in curves or not others:
        return None
    best = max(others, key=lambda name: float(others[name][:, -1].mean()))
    generator = np.random.default_rng(0)
    worlds = len(curves[DEFAULT])
    found = []
    for draw in range(BOOTSTRAP // 4):
        rows = np.arange(worlds) if draw == 0 else generator.integers(0, worlds, worlds)
        level = others[best][rows, -1].mean()
        found.append(float(_first(curves[DEFAULT][rows].mean(axis=0)[None], level)[0]))
    low, high = np.quantile(found, [0.025, 0.975])
    return {
        "other": best,
        "value": found[0],
        "low": float(low),
        "high": float(high),
        "of": curves[DEFAULT].shape[1] - 1,
    }


def _interval(values: Array) -> dict[str, float] | None:
    """The mean and half its 95% bootstrap interval."""
    if not len(values):
        return None
    generator = np.random.default_rng(0)
    means = values[generator.integers(0, len(values), (BOOTSTRAP, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"value": round(float(values.mean()), 4), "interval": round(float(high - low) / 2, 4)}


def _draw(cells: Mapping[tuple[str, float], Mapping[str, Mapping[int, Search]]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    landscapes = list(dict.fromkeys(landscape for landscape, _ in sorted(cells)))
    noises = sorted({noise for _, noise in cells})
    figure, axes = pyplot.subplots(
        len(noises), len(landscapes), figsize=(3.4 * len(landscapes), 2.8 * len(noises)), squeeze=False, sharex=True
    )
    names = sorted({name for policies in cells.values() for name in policies})
    colours = {name: pyplot.get_cmap("tab10")(place % 10) for place, name in enumerate(names)}
    for row, noise in enumerate(noises):
        for column, landscape in enumerate(landscapes):
            axis = axes[row][column]
            policies = cells.get((landscape, noise), {})
            if not policies:
                continue
            worlds = sorted(set.intersection(*(set(found) for found in policies.values())))
            for name, found in policies.items():
                curve = _curves(found, worlds)
                mean, error = curve.mean(axis=0), 1.96 * curve.std(axis=0) / np.sqrt(len(worlds))
                steps = np.arange(len(mean))
                ours = name == DEFAULT
                axis.plot(steps, mean, color=colours[name], linewidth=2.2 if ours else 1.0, label=name)
                if ours:
                    axis.fill_between(steps, mean - error, mean + error, color=colours[name], alpha=0.25, linewidth=0)
            axis.set_title(f"{landscape}, noise {noise:g}", fontsize=9)
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel("best true utility so far")
            if row == len(noises) - 1:
                axis.set_xlabel("evaluations")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=5, fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
