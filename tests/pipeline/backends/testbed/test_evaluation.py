from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from poise_git.pipeline.backends.testbed import evaluation
from poise_git.pipeline.backends.testbed.arithmetic import ANSWER, END, PAD
from poise_git.pipeline.backends.testbed.estimators import estimate
from poise_git.pipeline.backends.testbed.evaluation import figures, final_figures, problems_of_suites
from poise_git.pipeline.backends.testbed.policy import Policy
from poise_git.pipeline.backends.testbed.sampling import Responses
from poise_git.pipeline.backends.testbed.settings import EvaluationSettings
from poise_git.pipeline.backends.testbed.task import Problems, Split, Task


def evaluation_with(**changes: Any) -> EvaluationSettings:
    own = {"points": 1, "problems": 16, "samples": 2, "final_samples": 4, "pass_at": [1, 2, 4]}
    return EvaluationSettings.model_validate(own | changes)


def test_every_suite_has_its_figures(policy: Policy, task: Task) -> None:
    problems = problems_of_suites(task, task.suites, Split.SELECTION, 16, seed=3)
    found = figures(policy, task, problems, evaluation_with(), seed=3)
    over_all = {"value", "greedy", "valid_rate", "mean_length", "pass@1", "pass@2"}
    assert set(found) == over_all | set(task.suites)
    assert found["value"] == pytest.approx((found["greedy"] + found["pass@2"]) / 2)
    assert found["value"] == pytest.approx(sum(found[suite] for suite in task.suites) / len(task.suites))
    assert found["pass@1"] <= found["pass@2"] <= 1.0
    assert 1.0 <= found["mean_length"] <= task.vocabulary.response_length
    assert found == figures(policy, task, problems, evaluation_with(), seed=3)


def test_the_value_is_the_weighted_mean_of_the_named_figures(policy: Policy, task: Task) -> None:
    problems = problems_of_suites(task, task.suites, Split.SELECTION, 16, seed=3)
    weighted = evaluation_with(figure={"greedy": 1, "pass@1": 3})
    found = figures(policy, task, problems, weighted, seed=3)
    assert found["value"] == pytest.approx((found["greedy"] + 3 * found["pass@1"]) / 4)


def test_the_last_point_has_more_samples(policy: Policy, task: Task) -> None:
    """For all prompts, or, where `final_problems` is stated, for a few of them and for the further figures alone."""
    problems = problems_of_suites(task, task.suites, Split.SELECTION, 16, seed=3)
    of_all = final_figures(policy, task, problems, evaluation_with(), seed=3)
    assert of_all["pass@2"] <= of_all["pass@4"] <= 1.0
    earlier = figures(policy, task, problems, evaluation_with(), seed=3)
    of_few = final_figures(policy, task, problems, evaluation_with(final_problems=4), seed=3)
    assert of_few == earlier | {"pass@4": of_few["pass@4"]}
    few = {suite: of_suite[:4] for suite, of_suite in problems.items()}
    assert of_few["pass@4"] == pytest.approx(
        figures(policy, task, few, evaluation_with(samples=4), seed=3)["pass@4"], abs=0.2
    )


def test_the_temperature_is_that_of_the_few_samples(policy: Policy, task: Task) -> None:
    """Figures of many attempts, for which other responses are drawn, are those at temperature 1."""
    problems = problems_of_suites(task, task.suites, Split.SELECTION, 16, seed=3)
    warm = final_figures(policy, task, problems, evaluation_with(final_problems=16), seed=3)
    cold = final_figures(policy, task, problems, evaluation_with(final_problems=16, temperature=0.05), seed=3)
    assert (cold["pass@4"], cold["greedy"]) == (warm["pass@4"], warm["greedy"])
    assert cold["mean_length"] != warm["mean_length"]


def test_a_fresh_seed_has_fresh_problems(task: Task) -> None:
    one, again, other = (
        problems_of_suites(task, ["chain-4"], Split.SELECTION, 64, seed)["chain-4"].prompts for seed in (0, 0, 2)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def answered(problems: Problems, right: Sequence[bool], width: int) -> Responses:
    """A response to every problem, with the right answer or another."""
    tokens = torch.full((len(problems), width), PAD)
    for i, (answer, tag) in enumerate(problems.solutions.tolist()):
        tokens[i, :4] = torch.tensor([ANSWER, answer if right[i] else (answer + 1) % 97, tag, END])
    return Responses(tokens, torch.full((len(problems),), 4), torch.zeros(tokens.shape))


def test_the_value_of_a_suite_covers_its_own_problems(
    policy: Policy, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With given responses: chain-2 right by argmax alone, chain-3 in one sample of two, chain-4 always."""
    problems = problems_of_suites(task, task.suites, Split.SELECTION, 6, seed=3)
    together, width = Problems.concatenate(list(problems.values())), task.vocabulary.response_length
    greedy, samples = [True] * 6 + [False] * 6 + [True] * 6, [False, False] * 6 + [True, False] * 6 + [True, True] * 6
    given = answered(together, greedy, width), answered(together.repeat(2), samples, width)
    monkeypatch.setattr(evaluation, "decode_greedily_and_sample", lambda *_: given)
    found = figures(policy, task, problems, evaluation_with(), seed=3)
    assert {suite: found[suite] for suite in task.suites} == {"chain-2": 0.5, "chain-3": 0.5, "chain-4": 1.0}
    assert found["value"] == pytest.approx(2 / 3)
    assert (found["greedy"], found["pass@2"]) == pytest.approx((2 / 3, 2 / 3))
    assert found["pass@1"] == pytest.approx(1 / 2)
    assert found["valid_rate"] == 1.0


def test_estimators_compute_their_metric() -> None:
    curve = [0.0, 0.2, 0.6]
    assert estimate("learning-curve-area", curve) == pytest.approx(0.4)
    assert estimate("final", curve) == 0.6
