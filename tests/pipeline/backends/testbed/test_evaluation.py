from __future__ import annotations

import numpy as np
import pytest

from poise_git.pipeline.backends.testbed.estimators import estimate
from poise_git.pipeline.backends.testbed.evaluation import evaluate_policy, held_out
from poise_git.pipeline.backends.testbed.policy import Policy
from poise_git.pipeline.backends.testbed.task import Task


def test_figures_of_each_suite(policy: Policy, task: Task) -> None:
    problems = held_out(task, task.suites, 16, seed=3)
    figures = evaluate_policy(policy, task, problems, samples=4, pass_at=(1, 4), seed=3)
    assert list(figures) == list(task.suites)
    for suite in figures.values():
        assert set(suite) == {"value", "acc@1", "sampled", "valid_rate", "mean_length", "pass@1", "pass@4"}
        assert suite["pass@1"] == pytest.approx(suite["sampled"])
        assert suite["sampled"] <= suite["pass@4"] <= 1.0
        assert 1.0 <= suite["mean_length"] <= task.vocabulary.response_length
    assert figures == evaluate_policy(policy, task, problems, samples=4, pass_at=(1, 4), seed=3)


def test_a_fresh_seed_has_fresh_problems(task: Task) -> None:
    one, again, other = (held_out(task, ["chain-4"], 64, seed)["chain-4"].prompts for seed in (0, 0, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_estimators() -> None:
    curve = [0.0, 0.2, 0.6]
    assert estimate("learning-curve-area", curve) == pytest.approx(0.4)
    assert estimate("final", curve) == 0.6
