"""Held-out evaluation, in a child process that never loads a candidate: it reads saved weights and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poise_git.pipeline.backends.testbed.device import compute_on
from poise_git.pipeline.backends.testbed.policy import Policy
from poise_git.pipeline.backends.testbed.sampling import decode_greedily_and_sample, uniform_numbers
from poise_git.pipeline.backends.testbed.settings import TestbedSettings
from poise_git.pipeline.backends.testbed.task import Problems, Split, Task
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
            last = step == steps[-1]
            samples = own.evaluation.final_samples if last else own.evaluation.samples
            figures = evaluate_policy(
                policy, task, problems, samples, own.evaluation.samples, own.evaluation.pass_at if last else (), seed
            )
            points.setdefault(regime, []).append(figures)
            done += 1
            send({"done": done})
    return {"points": points}


def problems_of_suites(task: Task, suites: Sequence[str], split: Split, n: int, seed: int) -> dict[str, Problems]:
    """`n` problems of each suite, of one side. Another seed gives others, so that a fresh seed is a fresh test."""
    return {
        suite: task.suite_problems(suite, split, n, np.random.default_rng([seed, 4, number]))
        for number, suite in enumerate(suites)
    }


def evaluate_policy(
    policy: Policy,
    task: Task,
    problems: Mapping[str, Problems],
    samples: int,
    attempts: int,
    pass_at: Sequence[int],
    seed: int,
) -> Figures:
    """Figures of a policy over all suites, whose problems are equally many.

    Returns:
        "value" (mean of "acc@1" and pass@`attempts`: a policy that only sharpens gains in accuracy at temperature 1,
        but not in these), "acc@1" (greedy accuracy), "sampled" (mean accuracy of the samples), "valid_rate" and
        "mean_length" (tokens) of the samples, "pass@k" for each k of `pass_at`, and the value of each suite under its
        name.
    """
    together = Problems.concatenate(list(problems.values()))
    uniforms = uniform_numbers(
        len(together) * samples, task.vocabulary.response_length, torch.Generator().manual_seed(seed)
    )
    greedy, sampled = decode_greedily_and_sample(policy, together.prompts, uniforms)
    _, greedy_correct = task.verify(together, greedy.tokens, greedy.lengths)
    valid, correct = task.verify(together.repeat(samples), sampled.tokens, sampled.lengths)
    counts = correct.reshape(-1, samples).sum(1)

    def solved(k: int) -> np.ndarray:
        """pass@k of each problem, from all its samples."""
        of_count = np.array([pass_at_k(samples, count, k) for count in range(samples + 1)])
        return np.asarray(of_count[counts])

    of_problem = (greedy_correct + solved(attempts)) / 2
    return {
        "value": float(of_problem.mean()),
        "acc@1": float(greedy_correct.mean()),
        "sampled": float(correct.mean()),
        "valid_rate": float(valid.mean()),
        "mean_length": float(sampled.lengths.float().mean()),
        **{f"pass@{k}": float(solved(k).mean()) for k in pass_at},
        **dict(zip(problems, of_problem.reshape(len(problems), -1).mean(1).tolist(), strict=True)),
    }
