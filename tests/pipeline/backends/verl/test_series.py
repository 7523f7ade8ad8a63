"""Following a training run by its files, while they grow and after an interruption."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from poise_git.pipeline.backends.verl.series import SERIES, Attempt, Follower, trajectory

METRICS = {
    "critic/score/mean": 0.5,
    "actor/entropy": 2.0,
    "response_length/mean": 7.0,
    "response_length/clip_ratio": 0.25,
    "actor/grad_norm": 1.5,
    "actor/ppo_kl": 0.01,
    "actor/pg_clipfrac": 0.125,
    "timing_s/step": 3.0,
    "perf/throughput": 900.0,
    "actor/lr": 1e-6,
}
ROLLOUTS = {"correct_rate": 0.4, "valid_rate": 0.6, "all_fail_rate": 0.2}


def log(attempt: Attempt, step: int, **changed: float) -> None:
    with attempt.metrics.open("a") as file:
        file.write(json.dumps({"step": step, "data": METRICS | changed}) + "\n")
    with attempt.rollouts.open("a") as file:
        file.write(json.dumps(ROLLOUTS) + "\n")


def test_verl_names_become_trajectory_names(tmp_path: Path) -> None:
    attempt = Attempt.numbered(tmp_path, 1)
    log(attempt, 1)
    ((step, values),) = Follower(attempt).new_steps()
    assert step == 1
    assert dict(values) == {
        "reward": 0.5, "entropy": 2.0, "response_length": 7.0, "length_limit_rate": 0.25, "gradient_norm": 1.5,
        "kl": 0.01, "clip_fraction": 0.125, "correct_rate": 0.4, "valid_rate": 0.6, "all_fail_rate": 0.2,
        "seconds": 3.0, "tokens_per_second": 900.0,
    }  # fmt: skip


def test_every_step_is_reported_once_when_its_line_is_complete(tmp_path: Path) -> None:
    attempt = Attempt.numbered(tmp_path, 1)
    follower = Follower(attempt)
    assert list(follower.new_steps()) == []
    log(attempt, 1)
    with attempt.metrics.open("a") as file:
        file.write('{"step": 2, "da')
    assert [step for step, _ in follower.new_steps()] == [1]
    with attempt.metrics.open("a") as file:
        file.write('ta": {}}\n')
    assert list(follower.new_steps()) == [], "the step's rollouts are not there yet"
    with attempt.rollouts.open("a") as file:
        file.write(json.dumps(ROLLOUTS) + "\n")
    ((step, values),) = follower.new_steps()
    assert step == 2
    assert math.isnan(values["reward"])
    assert values["clip_fraction"] == 0.0, "the candidate need not report it"


def test_a_resumed_run_has_one_trajectory(tmp_path: Path) -> None:
    """Interrupted after step 3, resumed from the checkpoint of step 2."""
    first, second = Attempt.numbered(tmp_path, 1), Attempt.numbered(tmp_path, 2)
    for step in (1, 2, 3):
        log(first, step, **{"critic/score/mean": 0.1 * step})
    with first.rollouts.open("a") as file:
        file.write(json.dumps(ROLLOUTS) + "\n")
    for step in (3, 4):
        log(second, step, **{"critic/score/mean": 0.2 * step})
    found = trajectory(Attempt.all_in(tmp_path), 4)
    assert set(found) == set(SERIES)
    assert found["reward"] == pytest.approx([0.1, 0.2, 0.6, 0.8])


def test_a_missing_step_is_named(tmp_path: Path) -> None:
    attempt = Attempt.numbered(tmp_path, 1)
    log(attempt, 1)
    log(attempt, 3)
    with pytest.raises(ValueError, match="without metrics of step 2"):
        trajectory([attempt], 3)


def test_attempts_are_sorted_by_number(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        Attempt.numbered(tmp_path, number).metrics.touch()
    assert [attempt.metrics.name for attempt in Attempt.all_in(tmp_path)] == [
        "metrics-1.jsonl", "metrics-9.jsonl", "metrics-10.jsonl",
    ]  # fmt: skip
