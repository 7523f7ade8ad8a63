"""The runs of the calibration set under one protocol, as tables of figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from calibration import KINDS, ROOT, Kind
from calibration_runs import Record
from resolution_statistics import Table, differences_from, fit_noise

from poise_git.measurement.figures import overall
from poise_git.measurement.statistics import Noise

UTILITY = "U"


def begun_elsewhere(records: Sequence[Record]) -> list[Record]:
    """Runs whose learning curve does not start at the same point as GRPO's with the same seed.

    The first point is before any training, so the two had different base policies, because the testbed's code has
    changed between them. Their difference says nothing about the algorithms.
    """
    starts = {record.seed: record.curve[:1] for record in records if record.algorithm == ROOT}
    return [record for record in records if record.curve[:1] != starts.get(record.seed, record.curve[:1])]


@dataclass(frozen=True)
class Calibration:
    """The runs of one protocol: every algorithm here has a run of every seed of `seeds`.

    Attributes:
        records: (algorithm, seed) -> run.
        weights: regime -> weight in U, summing to 1.
        worlds: how many worlds the seeds take in turn.
    """

    records: Mapping[tuple[str, int], Record]
    weights: Mapping[str, float]
    worlds: int

    @classmethod
    def of(cls, records: Iterable[Record], weights: Mapping[str, float], worlds: int) -> Calibration:
        """The seeds are GRPO's; algorithms that lack one of them, failed on it or began it elsewhere are left out."""
        comparable = [record for record in records if record.failure is None]
        strange = {record.key for record in begun_elsewhere(comparable)}
        sound = {(record.algorithm, record.seed): record for record in comparable if record.key not in strange}
        seeds = [seed for name, seed in sound if name == ROOT]
        kept = {name for name in KINDS if all((name, seed) in sound for seed in seeds)}
        return cls({key: sound[key] for key in sound if key[0] in kept and key[1] in seeds}, weights, worlds)

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({seed for _, seed in self.records})

    @cached_property
    def algorithms(self) -> list[str]:
        """In the order of the calibration set."""
        present = {name for name, _ in self.records}
        return [name for name in KINDS if name in present]

    @cached_property
    def figures(self) -> tuple[str, ...]:
        """The names of the figures: U and the regimes."""
        return (UTILITY, *self.weights)

    def of_kind(self, *kinds: Kind) -> list[str]:
        return [name for name in self.algorithms if KINDS[name] in kinds]

    def table(self, figure: str, names: Sequence[str] | None = None) -> Table:
        """U, or one regime's value."""
        return self._table(lambda record: self._combined(record.values, figure), names)

    def training_correctness(self, names: Sequence[str] | None = None) -> Table:
        """Mean correctness of the training rollouts, the regimes weighted as in U."""
        return self._table(
            lambda record: self._combined(
                {regime: record.series[f"{regime}/correct_rate"] for regime in self.weights}, UTILITY
            ),
            names,
        )

    def final(self, regime: str, name: str) -> Table:
        """A final figure of a regime's held-out evaluation."""
        return self._table(lambda record: record.details[regime][name], None)

    def cpu_seconds(self, name: str) -> float:
        """Of one run, on average."""
        return math.fsum(run.training_seconds + run.evaluation_seconds for run in self.runs_of(name)) / len(self.seeds)

    def runs_of(self, name: str) -> list[Record]:
        return [self.records[name, seed] for seed in self.seeds]

    def noise(self, figure: str) -> Noise | None:
        """Of one seed's difference between a sound algorithm and GRPO."""
        apart = differences_from(self.table(figure, self.of_kind(Kind.SOUND)), ROOT)
        return fit_noise(difference for name, difference in apart.items() if not self._is_inert(name))

    def _is_inert(self, name: str) -> bool:
        """Whether it equals GRPO exactly in some regime; such an algorithm says little about noise."""
        return any(self.table(regime)[name] == self.table(regime)[ROOT] for regime in self.weights)

    def _combined(self, values: Mapping[str, float], figure: str) -> float:
        if figure == UTILITY:
            return overall(values, self.weights)
        return values[figure]

    def _table(self, figure: Callable[[Record], float], names: Sequence[str] | None) -> Table:
        wanted = self.algorithms if names is None else names
        return {name: {seed: figure(self.records[name, seed]) for seed in self.seeds} for name in wanted}
