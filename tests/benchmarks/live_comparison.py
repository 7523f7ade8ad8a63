"""Selection policies in real searches at equal budget: the library agent on the testbed, the same seeds for all.

    python tests/benchmarks/live_comparison.py run --results FOLDER --workers 2
    python tests/benchmarks/live_comparison.py report --results FOLDER

A search sees one seed of the protocol `quick`. Its winner is compared with the root on four fresh seeds and on unseen
prompts. Policies are compared by this gain, paired by the seed of the search. `run` resumes after a stop.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import yaml

if __package__ in (None, ""):
    import sys

    sys.path.insert(0, str(Path(__file__).parents[2]))

from poise_git import loop
from poise_git.archive import Archive
from poise_git.cli.sessions import open_session
from poise_git.experiment import Experiment
from poise_git.loop import Goal, evolve
from poise_git.search.selection import policy_of
from poise_git.search.selection.interface import Policy
from poise_git.settings import SearchSettings
from poise_git.template import create_archive
from tests.benchmarks.selection_rivals import RIVALS

POLICIES = ("tree", "paper", "greedy", "uniform")
DEFAULT = "tree"
CANDIDATES = 18
REPEATS = 5
PROTOCOL = {"seeds": "[0]"}


def policy_named(name: str) -> Policy:
    return RIVALS[name] if name in RIVALS else policy_of(SearchSettings(policy=name))  # type: ignore[arg-type]


def run(results: Path, names: Sequence[str], repeats: int, candidates: int, workers: int) -> None:
    """Run repeat by repeat, so that an early stop leaves all policies on the same seeds."""
    for repeat in range(repeats):
        for name in names:
            place = results / f"{name}-{repeat}"
            archive = Archive.open(place) if place.exists() else _archive(place, repeat)
            policy = policy_named(name)
            loop.policy_of = lambda settings, policy=policy: policy
            with open_session(Experiment.load(archive), lambda event: None, workers=workers) as session:
                ended = evolve(session, Goal(candidates=candidates))
            if ended.confirmation:
                print(f"{name} {repeat}: {ended.best} {ended.confirmation.value:+.4f}", flush=True)


def _archive(place: Path, seed: int) -> Archive:
    archive = create_archive(place, protocol="quick")
    _edit(place / "protocols" / "quick.yaml", PROTOCOL)
    _edit(place / "poise.yaml", {"seed": str(seed)})
    subprocess.run(["git", "-C", str(place), "commit", "-qam", "one seed"], check=True)
    return archive


def _edit(file: Path, values: Mapping[str, str]) -> None:
    """Change top-level fields."""
    lines = [
        f"{name}: {values[name]}" if (name := line.partition(":")[0]) in values else line
        for line in file.read_text().splitlines()
    ]
    file.write_text("\n".join(lines) + "\n")


def report(results: Path) -> dict[str, Any]:
    """The gain of each policy's winners over the root, and the lead of the default."""
    gains: dict[str, dict[int, float]] = {}
    standing: dict[str, dict[int, float]] = {}
    for place in sorted(each for each in results.iterdir() if each.is_dir()):
        name, _, repeat = place.name.rpartition("-")
        experiment = Experiment.load(Archive.open(place))
        found = experiment.evaluated()
        best = max(found, key=lambda each: found[each][1].utility.value if found[each][1].utility else 0.0)
        if gain := experiment.confirmation(best):
            gains.setdefault(name, {})[int(repeat)] = gain.value
            standing.setdefault(name, {})[int(repeat)] = float(len(found) - 1)
    return {
        name: {
            "searches": len(found),
            "candidates": float(np.mean(list(standing[name].values()))),
            "gain_on_fresh_seeds": _interval(list(found.values())),
            "default_less_this": None
            if name == DEFAULT
            else _interval(
                [gains[DEFAULT][repeat] - gain for repeat, gain in found.items() if repeat in gains[DEFAULT]]
            ),
        }
        for name, found in sorted(gains.items(), key=lambda entry: -np.mean(list(entry[1].values())))
    }


def _differences(default: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    return [default[repeat] - other[repeat] for repeat in sorted(default.keys() & other.keys())]


def _interval(values: Sequence[float]) -> dict[str, float]:
    """The mean and half its 95% interval (t)."""
    from scipy.stats import t

    n = len(values)
    reach = float(t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / n**0.5 if n > 1 else float("nan")
    return {"value": round(float(np.mean(values)), 5), "interval": round(reach, 5), "n": n}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "report"])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--policies", nargs="*", default=list(POLICIES), choices=["tree", "paper", *RIVALS])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    if asked.action == "run":
        run(asked.results, asked.policies, asked.repeats, asked.candidates, asked.workers)
    else:
        found = report(asked.results)
        (asked.results / "report.yaml").write_text(yaml.safe_dump(found, sort_keys=False))
        print(yaml.safe_dump(found, sort_keys=False))


if __name__ == "__main__":
    main()
