"""Does a directive steer? Compare two searches of the testbed's regime `length`, with and without one.

    python tests/benchmarks/steering.py run --results FOLDER --workers 2
    python tests/benchmarks/steering.py report --results FOLDER

The directive is "accurate and concise", and the library agent translates it. Each candidate is compared with the root
by seed: `shorter` and `better` (or `worse`) are differences of mean length and of Overall beyond their 95% interval.
`run` resumes after a stop.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import yaml

if __package__ in (None, ""):
    import sys

    sys.path.insert(0, str(Path(__file__).parents[2]))

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Estimate
from poise_git.cli.sessions import open_session
from poise_git.experiment import Experiment
from poise_git.loop import Goal, evolve
from poise_git.measurement.statistics import beyond_noise, paired_difference
from poise_git.settings import OVERALL
from poise_git.template import create_archive

DIRECTIVES = {"steered": "accurate and concise", "unsteered": ""}
CANDIDATES = 10
SEEDS = (0, 1, 2, 3)
LENGTH = "mean_length"


def run(results: Path, candidates: int, workers: int) -> None:
    for name, directive in DIRECTIVES.items():
        place = results / name
        archive = Archive.open(place) if place.exists() else _archive(place, directive)
        with open_session(Experiment.load(archive), lambda event: None, workers=workers) as session:
            evolve(session, Goal(candidates=candidates))


def _archive(place: Path, directive: str) -> Archive:
    archive = create_archive(place, protocol="testbed", directive=directive)
    file = place / "protocols" / "testbed.yaml"
    protocol = yaml.safe_load(file.read_text())
    regimes = {"length": protocol["settings"]["regimes"]["length"]}
    protocol |= {"seeds": list(SEEDS), "confirmation_seeds": [], "suites": {"length": 1}, "paired_deviation": None}
    protocol["settings"] |= {"regimes": regimes}
    file.write_text(yaml.safe_dump(protocol, sort_keys=False))
    subprocess.run(["git", "-C", str(place), "commit", "-qam", "the regime of length alone"], check=True)
    return archive


def report(results: Path) -> dict[str, Any]:
    return {name: _of(Experiment.load(Archive.open(results / name))) for name in DIRECTIVES}


def _of(experiment: Experiment) -> dict[str, Any]:
    seeds = experiment.protocol.seeds
    root = experiment.objective.figures(experiment.runs(ROOT, seeds))
    candidates = []
    for name in experiment.evaluated():
        if name == ROOT:
            continue
        own = experiment.objective.figures(experiment.runs(name, seeds))
        length, overall = (paired_difference(own[figure], root[figure]) for figure in (LENGTH, OVERALL))
        assert length is not None
        assert overall is not None
        candidates.append({"name": name, "length": _told(length), "overall": _told(overall)})
    shorter = [each for each in candidates if each["length"]["value"] < 0 and each["length"]["beyond_noise"]]
    return {
        "objective": experiment.objective.description,
        "root": {figure: round(float(np.mean(list(root[figure].values()))), 4) for figure in (LENGTH, OVERALL)},
        "candidates": len(candidates),
        "shorter": len(shorter),
        "shorter_and_not_worse": sum(_not_worse(each) for each in shorter),
        "shorter_and_better": sum(_not_worse(each) and each["overall"]["beyond_noise"] for each in shorter),
        "shorter_by_the_mean": sum(each["length"]["value"] < 0 for each in candidates),
        "both_by_the_mean": sum(each["length"]["value"] < 0 < each["overall"]["value"] for each in candidates),
        "mean_difference_of_length": _mean([each["length"]["value"] for each in candidates]),
        "mean_difference_of_overall": _mean([each["overall"]["value"] for each in candidates]),
        "each": candidates,
    }


def _told(difference: Estimate) -> dict[str, Any]:
    return {
        "value": round(difference.value, 5),
        "interval": None if difference.interval is None else round(difference.interval, 5),
        "beyond_noise": beyond_noise(difference),
    }


def _not_worse(candidate: dict[str, Any]) -> bool:
    overall = candidate["overall"]
    return bool(overall["value"] >= 0 or not overall["beyond_noise"])


def _mean(values: list[float]) -> dict[str, float]:
    """Over candidates, with half its 95% interval (t)."""
    from scipy.stats import t

    n = len(values)
    reach = float(t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / n**0.5 if n > 1 else float("nan")
    return {"value": round(float(np.mean(values)), 5), "interval": round(reach, 5), "n": n}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "report"])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    if asked.action == "run":
        run(asked.results, asked.candidates, asked.workers)
    else:
        found = report(asked.results)
        (asked.results / "report.yaml").write_text(yaml.safe_dump(found, sort_keys=False))
        print(yaml.safe_dump(found, sort_keys=False))


if __name__ == "__main__":
    main()
