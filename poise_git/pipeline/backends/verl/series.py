"""The trajectory of a training run, from the files that verl and the candidate's registration write during the run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Name of a series in the trajectory -> name in verl.
VERL_METRICS = {
    "reward": "critic/score/mean",
    "entropy": "actor/entropy",
    "response_length": "response_length/mean",
    "length_limit_rate": "response_length/clip_ratio",
    "gradient_norm": "actor/grad_norm",
    "kl": "actor/ppo_kl",
    "clip_fraction": "actor/pg_clipfrac",
}
# Shares computed from the rewards of a step, recorded beside verl's own metrics.
ROLLOUT_METRICS = ("correct_rate", "valid_rate", "all_fail_rate")
SERIES = (*VERL_METRICS, *ROLLOUT_METRICS)
# verl's names of a run's costs. Progress reports show them; the trajectory does not hold them.
COSTS = {"seconds": "timing_s/step", "tokens_per_second": "perf/throughput"}

Values = Mapping[str, float]


@dataclass(frozen=True)
class Attempt:
    """The files of one start of the trainer. A resumed run has several starts."""

    metrics: Path
    rollouts: Path

    @classmethod
    def numbered(cls, folder: Path, number: int) -> Attempt:
        return cls(folder / f"metrics-{number}.jsonl", folder / f"rollouts-{number}.jsonl")

    @classmethod
    def all_in(cls, folder: Path) -> tuple[Attempt, ...]:
        """All attempts, in the order of their starts."""
        numbers = sorted(int(path.stem.rpartition("-")[2]) for path in folder.glob("metrics-*.jsonl"))
        return tuple(cls.numbered(folder, number) for number in numbers)


@dataclass
class Follower:
    """Read an attempt's files while they grow."""

    attempt: Attempt
    _seen: int = field(default=0, init=False)

    def new_steps(self) -> Iterator[tuple[int, Values]]:
        """The steps that ended since the last call: number and values, costs included.

        Raises:
            ValueError: verl did not write such a line.
        """
        metrics = list(_whole_lines(self.attempt.metrics))
        rollouts = list(_whole_lines(self.attempt.rollouts))
        for place in range(self._seen, min(len(metrics), len(rollouts))):
            self._seen += 1
            try:
                found = int(metrics[place]["step"]), _values(metrics[place]["data"], rollouts[place])
            except (TypeError, KeyError, AttributeError) as error:
                raise ValueError(f"line {place + 1} of the trainer's metrics is not in verl's format") from error
            yield found


def trajectory(attempts: Iterable[Attempt], steps: int) -> dict[str, list[float]]:
    """Every series from step 1 to `steps`; a step that a later attempt repeats replaces the earlier one.

    Raises:
        ValueError: a step is missing.
    """
    found: dict[int, Values] = {}
    for attempt in attempts:
        found |= dict(Follower(attempt).new_steps())
    missing = next((step for step in range(1, steps + 1) if step not in found), None)
    if missing is not None:
        raise ValueError(f"the trainer ended without metrics of step {missing}")
    return {name: [found[step][name] for step in range(1, steps + 1)] for name in SERIES}


def _values(data: Mapping[str, Any], rollout: Mapping[str, Any]) -> dict[str, float]:
    """The values of one step: not-a-number where verl reports none, but 0 for a missing clip fraction."""
    absent = {"clip_fraction": 0.0}
    values = {name: _number(data.get(key, absent.get(name))) for name, key in VERL_METRICS.items()}
    values |= {name: _number(rollout.get(name)) for name in ROLLOUT_METRICS}
    return values | {name: _number(data[key]) for name, key in COSTS.items() if key in data}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _whole_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a file, without an incomplete last line."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return
    for line in text.splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)
