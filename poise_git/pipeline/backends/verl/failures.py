"""The ways in which a training run can fail, by name, and how each is recognized."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from poise_git.pipeline.backends.verl.settings import EarlyStop, EarlyStopSettings


class Ending(StrEnum):
    """The first words of a failed run's reason."""

    CANDIDATE = "candidate error"
    NOT_A_NUMBER = "not a number"
    OUT_OF_MEMORY = "out of memory"
    STALL = "stall"
    TIME_LIMIT = "time limit"
    CRASH = "crash"
    ENTROPY_COLLAPSE = "entropy collapse"
    KL_EXPLOSION = "KL explosion"
    LENGTH_EXPLOSION = "length explosion"
    GRADIENT_EXPLOSION = "gradient explosion"
    VALIDITY_COLLAPSE = "validity collapse"


class TrainingEnded(Exception):
    """Training ended before its last step."""

    def __init__(self, ending: Ending, detail: str) -> None:
        self.ending = ending
        super().__init__(f"{ending}: {' '.join(detail.split())}"[:400])


@dataclass(frozen=True)
class Rule:
    """A rule that ends a run when a series is beyond a threshold."""

    series: str
    below: bool
    ending: Ending


# Field of the settings -> its rule.
RULES: Mapping[str, Rule] = {
    "entropy_below": Rule("entropy", True, Ending.ENTROPY_COLLAPSE),
    "kl_above": Rule("kl", False, Ending.KL_EXPLOSION),
    "length_at_limit_share_above": Rule("length_limit_rate", False, Ending.LENGTH_EXPLOSION),
    "gradient_norm_above": Rule("gradient_norm", False, Ending.GRADIENT_EXPLOSION),
    "valid_rate_below": Rule("valid_rate", True, Ending.VALIDITY_COLLAPSE),
}


@dataclass
class EarlyStops:
    """Count the consecutive steps beyond the threshold of every active rule."""

    settings: EarlyStopSettings
    _in_a_row: dict[str, int] = field(default_factory=dict, init=False)

    def look(self, step: int, values: Mapping[str, float]) -> None:
        """Count one more step. Raises TrainingEnded if a rule ends the run."""
        for name, stop in self._active():
            rule = RULES[name]
            value = values[rule.series]
            beyond = value < stop.threshold if rule.below else value > stop.threshold
            self._in_a_row[name] = self._in_a_row.get(name, 0) + 1 if beyond else 0
            if self._in_a_row[name] >= stop.patience:
                side = "below" if rule.below else "above"
                raise TrainingEnded(
                    rule.ending,
                    f"{rule.series} {value:.4g} at step {step}, {side} {stop.threshold:g} "
                    f"for {stop.patience} steps in a row",
                )

    def _active(self) -> Iterator[tuple[str, EarlyStop]]:
        for name in RULES:
            stop = getattr(self.settings, name)
            if stop is not None:
                yield name, stop


# Lines about exhausted memory, from CUDA's allocator, PyTorch's CPU allocator, Ray's monitor or the kernel.
_MEMORY = re.compile(
    r"out of memory|OutOfMemory|can't allocate memory|Cannot allocate memory|MemoryError", re.IGNORECASE
)
# The last line of a Python traceback.
_ERROR = re.compile(r"(?:^|[\s)])((?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Failed|Exit|Interrupt)\b:? ?.*)$")


def crash(exit_code: int, log_tail: str) -> TrainingEnded:
    """The reason for the trainer's end, from its exit and the tail of its log."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in log_tail.splitlines()]
    memory = next((line for line in reversed(lines) if _MEMORY.search(line)), None)
    if memory is not None:
        return TrainingEnded(Ending.OUT_OF_MEMORY, memory)
    error = next((found.group(1) for line in reversed(lines) if (found := _ERROR.search(line))), None)
    how = f"killed by signal {-exit_code}" if exit_code < 0 else f"exit status {exit_code}"
    return TrainingEnded(Ending.CRASH, f"{error} ({how})" if error else f"the trainer ended with {how}")


def require_numbers(step: int, values: Mapping[str, Any]) -> None:
    """Require finite values. Raises TrainingEnded for any other."""
    for name, value in values.items():
        if value != value or value in (float("inf"), float("-inf")):
            raise TrainingEnded(Ending.NOT_A_NUMBER, f"{name} at step {step}")
