"""Which selection finds better algorithms with fewer evaluations? Two commands:

    python tests/benchmarks/search_efficiency.py run --results FOLDER --workers 2
    python tests/benchmarks/search_efficiency.py report --results FOLDER

`run` lets every policy search every world (63 evaluations in 21 rounds of 3 parents) and resumes after a stop;
`report` writes FOLDER/report.yaml and FOLDER/curves.png. Worlds below 10,000 are for tuning, those above for reporting.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Before numpy is loaded: one process per core, one thread per process.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import spearmanr

from poise_git.search.selection.interface import Action, Node, Policy, Survey
from poise_git.search.selection.paper import PaperPolicy
from poise_git.search.selection.tree import TreePolicy
from poise_git.settings import AcquisitionWeights, SearchSettings

if __package__ in (None, ""):
    import sys

    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.selection_rivals import RIVALS
from tests.benchmarks.selection_worlds import LANDSCAPES, World

ROUNDS, PARENTS = 21, 3
NOISES = (0.05, 0.15, 0.30)
REPORTING = 10_000
# Random policies get the same seed in the same world.
LOT = 31

WITHOUT_BAYES = SearchSettings(policy="paper", weights=AcquisitionWeights(pareto=0.25, perf=0.30, div=0.15))
POLICIES: Mapping[str, Policy] = {
    "tree": TreePolicy(SearchSettings()),
    "tree-without-reserve": TreePolicy(SearchSettings(exploration_share=0.0)),
    "paper": PaperPolicy(SearchSettings(policy="paper")),
    "paper-without-bayes": PaperPolicy(WITHOUT_BAYES),
    **RIVALS,
}


@dataclass(frozen=True)
class Search:
    """One search of one world: the true utility of every candidate in order, and of the one with the best measurement
    after each evaluation; the rank correlation of the model's term with true potential at the end (None: no model)."""

    landscape: str
    noise: float
    world: int
    policy: str
    true: tuple[float, ...]
    chosen: tuple[float, ...]
    correlation: float | None


def survey_of(world: World, remaining: int) -> Survey:
    """The part of a world that a policy sees."""
    nodes = tuple(
        Node(
            name=f"n{place}",
            parents=(f"n{found.parent}",) if found.parent >= 0 else (),
            utility=found.utility,
            error=world.noise / found.evaluations**0.5,
            metrics=tuple(found.metrics),
            metric_errors=(world.metric_noise / found.evaluations**0.5,) * len(found.metrics),
            dynamics=tuple(found.dynamics),
            mechanisms=frozenset(f"tag{tag}" for tag in np.flatnonzero(found.tags > 0)),
            depth=found.depth,
            seeds=found.evaluations,
        )
        for place, found in enumerate(world.evaluated)
    )
    return Survey(nodes, {f"n{place}": found.children for place, found in enumerate(world.evaluated)}, remaining)


def search(landscape: str, noise: float, number: int, policy: str) -> Search:
    """63 evaluations of one world by one policy."""
    world = World(landscape, number, noise)
    chosen = [world.evaluated[0].true]
    budget = ROUNDS * PARENTS
    used = 0
    while used < budget:
        selection = POLICIES[policy].select(survey_of(world, budget - used), PARENTS, LOT + 1000 * number + used)
        for choice in selection.choices:
            place = int(choice.name[1:])
            if choice.action is Action.EXPAND:
                world.expand(place)
            else:
                world.evaluate_again(place)
            used += 1
            best = max(world.evaluated, key=lambda found: found.utility)
            chosen.append(best.true)
    return Search(
        landscape, noise, number, policy,
        true=tuple(round(found.true, 4) for found in world.evaluated),
        chosen=tuple(round(value, 4) for value in chosen),
        correlation=_correlation(world, policy),
    )  # fmt: skip


def _correlation(world: World, policy: str) -> float | None:
    ranked = POLICIES[policy].select(survey_of(world, 0), PARENTS, 0).ranked
    terms = {entry.node.name: entry.terms.bayes for entry in ranked}
    if any(term is None for term in terms.values()):
        return None
    found = spearmanr([terms[f"n{place}"] for place in range(len(world.evaluated))], world.potential()).statistic
    return None if np.isnan(found) else float(found)


def run(results: Path, names: Iterable[str], landscapes: Iterable[str], numbers: range, workers: int) -> None:
    """Run every search that `results` does not hold yet; append each as it ends."""
    results.mkdir(parents=True, exist_ok=True)
    file = results / "searches.jsonl"
    done = {(found.landscape, found.noise, found.world, found.policy) for found in read(results)}
    # World by world, so that an early stop leaves all policies on the same worlds.
    wanted = [
        (landscape, noise, number, name)
        for number in numbers
        for name in names
        for landscape in landscapes
        for noise in NOISES
        if (landscape, noise, number, name) not in done
    ]
    with ProcessPoolExecutor(workers) as pool, file.open("a") as out:
        for place, found in enumerate(pool.map(search, *zip(*wanted, strict=True), chunksize=4) if wanted else (), 1):
            out.write(json.dumps(asdict(found)) + "\n")
            out.flush()
            if place % 100 == 0:
                print(f"{place} of {len(wanted)} searches", flush=True)


def read(results: Path) -> Iterator[Search]:
    """The searches of a folder; a line that a kill has truncated is ignored."""
    file = results / "searches.jsonl"
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            data: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            continue
        yield Search(**{**data, "true": tuple(data["true"]), "chosen": tuple(data["chosen"])})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "report"])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--policies", nargs="*", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--landscapes", nargs="*", default=list(LANDSCAPES), choices=LANDSCAPES)
    parser.add_argument("--worlds", type=int, default=100)
    parser.add_argument("--first-world", type=int, default=REPORTING)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    if asked.action == "run":
        numbers = range(asked.first_world, asked.first_world + asked.worlds)
        run(asked.results, asked.policies, asked.landscapes, numbers, asked.workers)
    else:
        from tests.benchmarks.search_efficiency_report import write_report

        write_report(list(read(asked.results)), asked.results)


if __name__ == "__main__":
    main()
