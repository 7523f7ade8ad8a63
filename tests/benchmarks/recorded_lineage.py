"""Is the landscape of real algorithms deceptive, and which policy searches it best? A lineage of the library agent.

    python tests/benchmarks/recorded_lineage.py record --archive DIR --candidates 300 --workers 2
    python tests/benchmarks/recorded_lineage.py export --archive DIR
    python tests/benchmarks/recorded_lineage.py deceptiveness
    python tests/benchmarks/recorded_lineage.py replay --repeats 40

`record` is the real loop on the real testbed (protocol `quick`, two seeds), but parents are drawn at random, so that
any policy can be replayed on it. `export` writes data/library_lineage.yaml; the last two read it. The record there is
of an earlier form of `quick`, with the regimes composite and reuse.

lineage_replay.py replays policies.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import yaml
from numpy.typing import NDArray

if __package__ in (None, ""):
    import sys

    sys.path.insert(0, str(Path(__file__).parents[2]))

from poise_git.search.selection.interface import Choice, ModelSkill, Ranked, Selection, Survey, Terms
from poise_git.settings import AcquisitionWeights

Array = NDArray[np.float64]

DATA = Path(__file__).parent / "data" / "library_lineage.yaml"
SEEDS = (0, 1)


@dataclass(frozen=True)
class Recorded:
    """An evaluated candidate: metrics (seeds, m) oriented, utilities (seeds,), in the order of its evaluation."""

    name: str
    parents: tuple[str, ...]
    round: int
    mechanisms: frozenset[str]
    text: str
    depth: int
    utilities: tuple[float, ...]
    metrics: tuple[tuple[float, ...], ...]
    dynamics: tuple[float, ...]


@dataclass(frozen=True)
class Lineage:
    """A recorded search; `deviation` is the standard deviation of one seed's paired difference in U."""

    candidates: tuple[Recorded, ...]
    failed: int
    deviation: float

    @classmethod
    def load(cls, file: Path = DATA) -> Lineage:
        data = yaml.safe_load(file.read_text())
        return cls(
            tuple(
                Recorded(
                    name=entry["name"],
                    parents=tuple(entry["parents"]),
                    round=entry["round"],
                    mechanisms=frozenset(entry["mechanisms"]),
                    text=entry["text"],
                    depth=entry["depth"],
                    utilities=tuple(entry["U"]),
                    metrics=tuple(tuple(row) for row in entry["y"]),
                    dynamics=tuple(entry["dynamics"]),
                )
                for entry in data["candidates"]
            ),
            failed=data["failed"],
            deviation=data["deviation"],
        )

    @cached_property
    def children(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {entry.name: [] for entry in self.candidates}
        for entry in self.candidates:
            if entry.parents and entry.parents[0] in found:
                found[entry.parents[0]].append(entry.name)
        return {name: tuple(names) for name, names in found.items()}

    @cached_property
    def by_name(self) -> Mapping[str, Recorded]:
        return {entry.name: entry for entry in self.candidates}

    @cached_property
    def best_descendant(self) -> Mapping[str, Array]:
        """The best utility below each node, by seed; -inf where it has no descendant."""
        found = {entry.name: np.full(len(SEEDS), -np.inf) for entry in self.candidates}
        for entry in reversed(self.candidates):
            for parent in entry.parents[:1]:
                below = np.maximum(found[entry.name], np.array(entry.utilities))
                found[parent] = np.maximum(found[parent], below)
        return found


# Recording.


@dataclass(frozen=True)
class ByLot:
    """Draws every parent at random, so that the record covers the children of poor and good nodes alike."""

    weights = AcquisitionWeights(perf=1.0)

    def select(self, survey: Survey, count: int, seed: int) -> Selection:
        lot = random.Random(seed)
        ranked = tuple(Ranked(node, Terms(0.0, 0.0, 0.0, None), {}, 0.0) for node in survey.nodes)
        choices = tuple(Choice(lot.choice(survey.nodes).name, "by lot") for _ in range(count))
        return Selection(ranked, choices, ModelSkill(None, 0, 0, "it has no model"))


def record(place: Path, candidates: int, workers: int) -> None:
    """Record a lineage; a later call resumes it."""
    import subprocess

    from poise_git import loop
    from poise_git.cli.main import main
    from poise_git.template import create_archive

    if not place.exists():
        create_archive(place, protocol="quick")
        file = place / "protocols" / "quick.yaml"
        lines = file.read_text().splitlines()
        replaced = {"seeds": f"seeds: {list(SEEDS)}", "confirmation_seeds": "confirmation_seeds: []"}
        file.write_text("".join(f"{replaced.get(line.partition(':')[0], line)}\n" for line in lines))
        subprocess.run(["git", "-C", place, "commit", "-qam", "protocol: two seeds"], check=True)
    loop.policy_of = lambda settings: ByLot()  # type: ignore[assignment]
    arguments = ["evolve", str(place), "--candidates", str(candidates), "--parents", "4", "--workers", str(workers)]
    main(arguments)


def export(place: Path, file: Path = DATA) -> None:
    """One line a candidate."""
    from poise_git.archive import Archive
    from poise_git.archive.entries import Status
    from poise_git.measurement.figures import late_dynamics, overall
    from poise_git.pipeline.protocol import load_protocol
    from poise_git.search.selection.survey import evaluated

    archive = Archive.open(place)
    protocol = load_protocol(str(archive.read_text("main", "protocols/quick.yaml")), "protocols/quick.yaml")
    genealogy = archive.genealogy()
    number = {
        entry["proposal"]["name"]: data["round"]
        for data in archive.rounds()
        for slot in data["slots"]
        for entry in slot["proposals"]
    }
    lines = []
    words = genealogy.mechanisms
    for name, (candidate, _) in evaluated(genealogy, protocol.hash).items():
        runs = sorted((run for run in archive.runs(name) if run.protocol == protocol.hash), key=lambda run: run.seed)
        names = sorted(runs[0].values)
        entry: dict[str, Any] = {
            "name": name,
            "parents": list(candidate.parents),
            "round": number.get(name, 0),
            "depth": genealogy.depth(name),
            "mechanisms": sorted(words[name]),
            "text": candidate.mechanism,
            "U": [round(overall(run.values, protocol.suite_weights), 5) for run in runs],
            "y": [[round(run.values[metric], 5) for metric in names] for run in runs],
            "dynamics": [float(f"{value:.3g}") for value in late_dynamics(runs).values()],
        }
        lines.append(yaml.safe_dump([entry], default_flow_style=True, width=10_000, sort_keys=False).strip()[1:-1])
    failed = sum(candidate.status_under(protocol.hash) is Status.FAILED for candidate in genealogy)
    head = {
        "protocol": protocol.hash,
        "deviation": protocol.paired_deviation.value if protocol.paired_deviation else None,
        "failed": failed,
    }
    text = yaml.safe_dump(head, sort_keys=False) + "candidates:\n" + "".join(f"- {line}\n" for line in lines)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    print(f"{len(lines)} evaluated and {failed} failed candidates in {file}")


# How deceptive is it?


def deceptiveness(lineage: Lineage) -> dict[str, Any]:
    """The deceptiveness of the record, with 95% bootstrap intervals over rounds or candidates."""
    utilities = np.array([entry.utilities for entry in lineage.candidates])
    noise = float((utilities[:, 0] - utilities[:, 1]).std() / 2**0.5)
    sound = utilities.mean(1) > np.quantile(utilities.mean(1), 0.1)
    rounds: dict[int, list[str]] = {}
    for entry in lineage.candidates:
        if entry.parents:
            rounds.setdefault(entry.round, []).append(entry.parents[0])
    missed, chance = [], []
    for parents in rounds.values():
        distinct = sorted(set(parents))
        if len(distinct) < 2:
            continue
        # A selection sees one seed; the other seed decides which node had the strongest descendant.
        for seen, truth in (SEEDS, SEEDS[::-1]):
            leader = max(distinct, key=lambda name: lineage.by_name[name].utilities[seen])
            strongest = max(distinct, key=lambda name: lineage.best_descendant[name][truth])
            missed.append(float(leader != strongest))
            chance.append(1.0 - 1.0 / len(distinct))
    pairs = [
        (lineage.by_name[entry.parents[0]].utilities, entry.utilities) for entry in lineage.candidates if entry.parents
    ]
    parents_seen = np.array([parent[0] for parent, _ in pairs] + [parent[1] for parent, _ in pairs])
    children_true = np.array([child[1] for _, child in pairs] + [child[0] for _, child in pairs])
    parents_true = np.array([parent[1] for parent, _ in pairs] + [parent[0] for parent, _ in pairs])
    best = max(lineage.candidates, key=lambda entry: float(np.mean(entry.utilities)))
    path = _path(lineage, best.name)
    return {
        "candidates": len(lineage.candidates),
        "failed": lineage.failed,
        "range_of_sound_utilities": float(np.ptp(utilities.mean(1)[sound])),
        "noise_of_one_seed": noise,
        "strongest_descendant_not_of_the_leader": _share(missed),
        "the_same_by_chance": float(np.mean(chance)),
        "rank_correlation_parent_and_child": _correlation(parents_seen, children_true),
        "rank_correlation_of_gain_and_parent": _correlation(parents_seen, children_true - parents_true),
        "gain_beats_parent": _share((children_true > parents_true).astype(float)),
        "line_of_the_best": [
            {
                "name": name,
                "U": float(np.mean(lineage.by_name[name].utilities)),
                "standing_when_built_on": _standing(lineage, name, child),
            }
            for name, child in zip(path, [*path[1:], None], strict=True)
        ],
    }


def _path(lineage: Lineage, name: str) -> list[str]:
    line = [name]
    while lineage.by_name[line[-1]].parents:
        line.append(lineage.by_name[line[-1]].parents[0])
    return line[::-1]


def _standing(lineage: Lineage, name: str, child: str | None) -> float | None:
    """The share of candidates that were better when the node was built on; 0 for the best."""
    if child is None:
        return None
    before = [entry for entry in lineage.candidates if entry.round < lineage.by_name[child].round]
    own = float(np.mean(lineage.by_name[name].utilities))
    better = sum(float(np.mean(entry.utilities)) > own for entry in before)
    return better / max(len(before) - 1, 1)


def _share(values: Sequence[float] | Array) -> dict[str, float]:
    return mean_with_interval(np.array(values))


def mean_with_interval(values: Array) -> dict[str, float]:
    generator = np.random.default_rng(0)
    means = values[generator.integers(0, len(values), (2000, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"value": float(values.mean()), "low": float(low), "high": float(high), "n": len(values)}


def _correlation(left: Array, right: Array) -> dict[str, float]:
    from scipy.stats import spearmanr

    generator = np.random.default_rng(0)
    draws = generator.integers(0, len(left), (500, len(left)))
    found = [float(spearmanr(left[rows], right[rows]).statistic) for rows in draws]
    low, high = np.quantile(found, [0.025, 0.975])
    return {"value": float(spearmanr(left, right).statistic), "low": float(low), "high": float(high), "n": len(left)}


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["record", "export", "deceptiveness", "replay"])
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(None if arguments is None else list(arguments))
    if asked.action in ("record", "export") and asked.archive is None:
        parser.error(f"{asked.action} needs --archive DIR")
    if asked.action == "record":
        record(asked.archive, asked.candidates, asked.workers)
    elif asked.action == "export":
        export(asked.archive)
    elif asked.action == "deceptiveness":
        print(yaml.safe_dump(deceptiveness(Lineage.load()), sort_keys=False, width=120))
    else:
        from tests.benchmarks.lineage_replay import compare
        from tests.benchmarks.search_efficiency import POLICIES

        print(yaml.safe_dump(compare(Lineage.load(), POLICIES, asked.repeats), sort_keys=False, width=120))


if __name__ == "__main__":
    main()
