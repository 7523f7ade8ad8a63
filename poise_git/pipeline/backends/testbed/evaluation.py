"""Held-out evaluation, in a child process that never loads a candidate: it reads saved weights and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from poise_git.pipeline.backends.testbed.device import compute_on
from poise_git.pipeline.backends.testbed.policy import Policy
from poise_git.pipeline.backends.testbed.sampling import decode_greedily_and_sample, sample, uniform_numbers
from poise_git.pipeline.backends.testbed.settings import GREEDY, EvaluationSettings, TestbedSettings, attempts_of
from poise_git.pipeline.backends.testbed.task import BoolArray, Problems, Split, Task
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.backends.testbed.trainer import load_policy, weights_file
from poise_git.pipeline.pass_at_k import pass_at_k

Figures = dict[str, float]


def evaluate(arguments: Mapping[str, Any], send: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Child process: evaluate every policy that training saved in the working directory.

    Args:
        arguments: `settings` (of the testbed), `device` (torch's name), `seed` and `split`.
        send: gets {"done": points} after each.

    Returns:
        {"points": regime -> figures of each point}, or {"failure": one line}.
    """
    torch.set_num_threads(1)
    settings = TestbedSettings.model_validate(arguments["settings"])
    compute_on(arguments["device"])
    seed, split = int(arguments["seed"]), Split(arguments["split"])
    points: dict[str, list[Figures]] = {}
    done = 0
    for regime, own in settings.regimes.items():
        task = build_task(own, own.world(seed))
        problems = problems_of_suites(task, own.evaluation.suites or task.suites, split, own.evaluation.problems, seed)
        steps = own.evaluation_steps()
        for step in steps:
            try:
                policy = load_policy(own, task, Path(weights_file(regime, step)))
            except Exception as error:  # torch.load raises what it likes on a file that is not one of weights
                reason = " ".join(str(error).split())[:200]
                return {"failure": f"cannot read the policy after step {step} of regime {regime}: {reason}"}
            measured = final_figures if step == steps[-1] else figures
            points.setdefault(regime, []).append(measured(policy, task, problems, own.evaluation, seed))
            done += 1
            send({"done": done})
    return {"points": points}


def problems_of_suites(task: Task, suites: Sequence[str], split: Split, n: int, seed: int) -> dict[str, Problems]:
    """`n` problems of each suite, of one side. Another seed gives others, so that a fresh seed is a fresh test."""
    return {
        suite: task.suite_problems(suite, split, n, np.random.default_rng([seed, 4, number]))
        for number, suite in enumerate(suites)
    }


def figures(
    policy: Policy, task: Task, problems: Mapping[str, Problems], settings: EvaluationSettings, seed: int
) -> Figures:
    """Figures of a policy at a point of its learning curve, over all suites, whose problems are equally many.

    Returns:
        "value" (the weighted mean of `settings.figure`), "greedy" (the accuracy of the likeliest response), "pass@k"
        for each k of `settings.figure` and `settings.pass_at` for which there are enough samples, "valid_rate" and
        "mean_length" (tokens) of the samples, and the value of each suite under its name.
    """
    return _figures(policy, task, problems, settings, settings.samples, seed)


def final_figures(
    policy: Policy, task: Task, problems: Mapping[str, Problems], settings: EvaluationSettings, seed: int
) -> Figures:
    """The same after training, and pass@k for each other k of `settings.pass_at`."""
    if settings.final_problems is None:
        return _figures(policy, task, problems, settings, settings.final_samples, seed)
    samples = settings.final_samples
    few = Problems.concatenate([of_suite[: settings.final_problems] for of_suite in problems.values()])
    uniforms = uniform_numbers(len(few) * samples, task.vocabulary.response_length, torch.Generator().manual_seed(seed))
    sampled = sample(policy, few.prompts, uniforms)
    _, correct = task.verify(few.repeat(samples), sampled.tokens, sampled.lengths)
    many = [k for k in settings.pass_at if k > settings.samples]
    return figures(policy, task, problems, settings, seed) | {
        f"pass@{k}": float(_solved(correct, samples, k).mean()) for k in many
    }


def _figures(
    policy: Policy,
    task: Task,
    problems: Mapping[str, Problems],
    settings: EvaluationSettings,
    samples: int,
    seed: int,
) -> Figures:
    together = Problems.concatenate(list(problems.values()))
    uniforms = uniform_numbers(
        len(together) * samples, task.vocabulary.response_length, torch.Generator().manual_seed(seed)
    )
    greedy, sampled = decode_greedily_and_sample(policy, together.prompts, uniforms, settings.temperature)
    _, greedy_correct = task.verify(together, greedy.tokens, greedy.lengths)
    valid, correct = task.verify(together.repeat(samples), sampled.tokens, sampled.lengths)
    named = {attempts_of(name) for name in settings.figure if name != GREEDY} | set(settings.pass_at)
    of_problem = {GREEDY: greedy_correct.astype(np.float64)} | {
        f"pass@{k}": _solved(correct, samples, k) for k in sorted(named) if k <= samples
    }
    value = np.sum([weight * of_problem[name] for name, weight in settings.weights.items()], axis=0)
    return {
        "value": float(value.mean()),
        **{name: float(solved.mean()) for name, solved in of_problem.items()},
        "valid_rate": float(valid.mean()),
        "mean_length": float(sampled.lengths.float().mean()),
        **dict(zip(problems, value.reshape(len(problems), -1).mean(1).tolist(), strict=True)),
    }


def _solved(correct: BoolArray, samples: int, k: int) -> NDArray[np.float64]:
    """pass@k of each problem, (N,), from the verdicts on `samples` responses to each, (N * samples,)."""
    of_count = np.array([pass_at_k(samples, count, k) for count in range(samples + 1)])
    return np.asarray(of_count[correct.reshape(-1, samples).sum(1)])
