"""The ceiling of a regime: the best that advantages reach which depend on reward levels and a group's composition.

python tests/benchmarks/ceiling.py search --results FILE --protocol PROTOCOL --regime NAME [--generations 20]
python tests/benchmarks/ceiling.py test --results FILE --protocol PROTOCOL --regime NAME --seeds 2000-2007
python tests/benchmarks/ceiling.py report --results FILE [--compared RECORDS]

`search` optimizes a free table with CMA-ES (arXiv:1604.00772), starting from GRPO's own advantages, on the seeds 0 to
3. The members of a generation train on the same two seeds. `test` trains GRPO and the table that was found on fresh
seeds. FILE holds a line for each run: no run that it has is repeated, so both may be interrupted, and more generations
go on from there. `report` prints how far GRPO and, with the records of testbed_resolution.py, the best known mechanism
are below the ceiling. The loss is GRPO's. A table of finite search is a lower bound of the ceiling.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cma
import torch
from calibration import ROOT, TEMPLATE, recipe_of
from calibration_runs import read_records
from testbed_resolution import seed_range
from torch import Tensor

from poise_git.measurement.statistics import half_width, paired_difference
from poise_git.pipeline.backends.testbed.base_policies import cached_file, ensure_base_policies
from poise_git.pipeline.backends.testbed.evaluation import figures, final_figures, problems_of_suites
from poise_git.pipeline.backends.testbed.settings import RegimeSettings, TestbedSettings, parse_settings
from poise_git.pipeline.backends.testbed.task import Split
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.backends.testbed.trainer import Trainer, load_policy
from poise_git.pipeline.boundary.algorithm import GuardedAlgorithm
from poise_git.pipeline.boundary.in_process import InProcess
from poise_git.pipeline.boundary.interface import BatchSizes, groups
from poise_git.pipeline.boundary.opening import trusted_algorithm
from poise_git.pipeline.protocol import load_protocol
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings

SEARCH_SEEDS = ((0, 1), (2, 3))
# Rewards are sums of float32 terms.
TOLERANCE = 1e-4
STEP_SIZE = 0.5


@dataclass(frozen=True)
class Shape:
    """The shape of a table: groups of G responses whose rewards take L levels, the last one being correct.

    The advantage of a response is the sum of an entry for its level and the number of correct responses in its group
    and, with three levels, of one for its level and the number of valid responses.
    """

    group_size: int
    levels: int

    @property
    def entries(self) -> int:
        return (self.levels - 1) * self.levels * (self.group_size + 1)

    def table(self, entries: Sequence[float]) -> Tensor:
        """(L - 1, L, G + 1): by what is counted, level of the response, and count."""
        return torch.tensor(entries).view(self.levels - 1, self.levels, self.group_size + 1)

    def of_grpo(self) -> list[float]:
        """(r - c/G) / sqrt(c/G (1 - c/G)) for rewards of 0 and 1; the counts of valid responses add nothing."""
        table = torch.zeros(self.levels - 1, self.levels, self.group_size + 1)
        for count in range(1, self.group_size):
            rate = count / self.group_size
            deviation = math.sqrt(rate * (1.0 - rate))
            table[0, :, count] = -rate / deviation
            table[0, -1, count] = (1.0 - rate) / deviation
        return list(map(float, table.flatten()))


class TableAlgorithm(GuardedAlgorithm):
    """Advantages from a table of this shape, and GRPO's loss."""

    def __init__(self, shape: Shape, table: Tensor, seed: int = 0) -> None:
        super().__init__(InProcess(recipe_of(ROOT)), None, seed)
        self.shape, self.table = shape, table

    def advantages(
        self, rewards: Tensor, mask: Tensor, index: Sequence[Any], sizes: BatchSizes | None = None
    ) -> Tensor:
        score, group = (rewards * mask).sum(-1), groups(index)
        correct, valid = score > 1.0 - TOLERANCE, score > TOLERANCE
        level = correct.long() * (self.shape.levels - 1) + (valid & ~correct).long() * (self.shape.levels - 2)
        advantage = torch.zeros_like(score)
        for part, counted in enumerate((correct, valid)[: self.shape.levels - 1]):
            count = torch.zeros(int(group.max()) + 1).index_add(0, group, counted.float()).long()[group]
            advantage += self.table[part][level, count]
        return advantage.unsqueeze(-1) * mask


@dataclass(frozen=True)
class Result:
    """One run of a member of a generation.

    Generation -N is the test after N generations of the search; its member 0 is GRPO, and 1 the table.
    """

    regime: str
    generation: int
    member: int
    seed: int
    value: float


def shape_of(settings: RegimeSettings) -> Shape:
    return Shape(settings.training.group_size, 3 if settings.reward.valid_wrong > 0 else 2)


def run(settings: RegimeSettings, entries: Sequence[float] | None, seed: int) -> float:
    """Train with the table of `entries` (None: with GRPO itself); the figure of the regime."""
    torch.set_num_threads(1)
    world, shape = settings.world(seed), shape_of(settings)
    task = build_task(settings, world)
    trainer = Trainer(settings, task, load_policy(settings, task, cached_file(settings, world)), seed)
    algorithm = (
        trusted_algorithm(recipe_of(ROOT), seed)
        if entries is None
        else TableAlgorithm(shape, shape.table(entries), seed)
    )
    evaluation = settings.evaluation
    problems = problems_of_suites(task, evaluation.suites or task.suites, Split.SELECTION, evaluation.problems, seed)
    points, values = settings.evaluation_steps(), []
    for step in range(1, settings.training.steps + 1):
        trainer.step(step, algorithm)
        if step in points:
            measured = final_figures if step == points[-1] else figures
            values.append(measured(trainer.policy, task, problems, evaluation, seed)["value"])
    return sum(values) / len(values)


@dataclass
class Book:
    """The runs of a file; a run is on disk before it counts."""

    file: Path
    regime: str
    settings: RegimeSettings
    pool: ProcessPoolExecutor

    def __post_init__(self) -> None:
        self._known = {
            (r.generation, r.member, r.seed): r.value for r in read_results(self.file) if r.regime == self.regime
        }

    def values(self, generation: int, members: Sequence[Sequence[float] | None], seeds: Sequence[int]) -> list[float]:
        """The mean over `seeds` of each member's figure."""
        wanted = [(member, seed) for member in range(len(members)) for seed in seeds]
        missing = [key for key in wanted if (generation, *key) not in self._known]
        futures = {key: self.pool.submit(run, self.settings, members[key[0]], key[1]) for key in missing}
        for (member, seed), future in futures.items():
            result = Result(self.regime, generation, member, seed, future.result())
            with self.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(asdict(result)) + "\n")
            self._known[generation, member, seed] = result.value
        return [sum(self._known[generation, m, seed] for seed in seeds) / len(seeds) for m in range(len(members))]


def read_results(file: Path) -> list[Result]:
    if not file.exists():
        return []
    # A last line without its end was cut off.
    return [Result(**json.loads(line)) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


def search(book: Book, generations: int) -> list[float]:
    """The mean of the search distribution after `generations`. The same file gives the same table."""
    options = {"seed": 1, "verbose": -9, "maxiter": generations, "tolfun": 0.0, "tolx": 0.0}
    strategy = cma.CMAEvolutionStrategy(shape_of(book.settings).of_grpo(), STEP_SIZE, options)
    for generation in range(generations):
        members = [list(map(float, member)) for member in strategy.ask()]
        values = book.values(generation, members, SEARCH_SEEDS[generation % len(SEARCH_SEEDS)])
        strategy.tell(members, [-value for value in values])
        print(f"{book.regime} generation {generation}: {min(values):.4f} to {max(values):.4f}", flush=True)
    return list(map(float, strategy.result.xfavorite))


def report(results: Sequence[Result], compared: Path | None) -> str:
    lines = ["| regime | GRPO | ceiling − GRPO | best known | share of the way |", "|---|---|---|---|---|"]
    for regime in dict.fromkeys(result.regime for result in results):
        own = [result for result in results if result.regime == regime]
        last = min(result.generation for result in own)
        tested = [result for result in own if last < 0 and result.generation == last]
        grpo, table = ({r.seed: r.value for r in tested if r.member == member} for member in (0, 1))
        above = paired_difference(table, grpo)
        if above is None:
            continue
        mean, half = sum(grpo.values()) / len(grpo), half_width(above)
        apart = f"{above.value:+.4f}" + (f" ± {half:.4f}" if half is not None else "")
        best = share = "–"
        if compared:
            name, gain = _best_known(compared, regime)
            best = f"{name} {gain:+.4f}"
            share = f"{gain / above.value:.0%}" if above.value > 0 else "–"
        lines.append(f"| {regime} | {mean:.3f} | {apart} | {best} | {share} |")
    return "\n".join(lines)


def _best_known(file: Path, regime: str) -> tuple[str, float]:
    """The algorithm with the largest mean difference from GRPO in the regime."""
    values: dict[str, dict[int, float]] = {}
    for record in read_records(file):
        if record.failure is None and regime in record.values:
            values.setdefault(record.algorithm, {})[record.seed] = record.values[regime]
    gains = {
        name: difference.value
        for name, own in values.items()
        if name != ROOT and (difference := paired_difference(own, values[ROOT]))
    }
    best = max(gains, key=lambda name: gains[name])
    return best, gains[best]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("search", "test", "report"):
        command = commands.add_parser(name)
        command.add_argument("--results", type=Path, required=True)
        if name == "report":
            command.add_argument("--compared", type=Path)
            continue
        command.add_argument("--protocol", type=Path, default=TEMPLATE / "protocols" / "testbed.yaml")
        command.add_argument("--regime", required=True)
        command.add_argument("--generations", type=int, default=20)
        command.add_argument("--workers", type=int, default=2)
        command.add_argument("--seeds", type=seed_range, default=seed_range("2000-2007"))
    given = parser.parse_args()
    if given.command == "report":
        print(report(read_results(given.results), given.compared))
        return
    protocol = load_protocol(given.protocol.read_text(encoding="utf-8"), given.protocol.name)
    settings = parse_settings(protocol, given.protocol.name).regimes[given.regime]
    with Sandbox(SandboxSettings()) as sandbox:
        only = TestbedSettings(revision=1, regimes={given.regime: settings})
        ensure_base_policies(only, sandbox, lambda file, steps, loss: None, given.workers)
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        book = Book(given.results, given.regime, settings, pool)
        table = search(book, given.generations)
        if given.command == "test":
            print(book.values(-given.generations, [None, table], given.seeds))


if __name__ == "__main__":
    main()
