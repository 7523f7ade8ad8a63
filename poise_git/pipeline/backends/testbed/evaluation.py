"""Held-out evaluation, in a child process that never loads a candidate: it reads saved weights and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poise_git.pipeline.backends.testbed.policy import Policy
from poise_git.pipeline.backends.testbed.sampling import decode_greedily, sample
from poise_git.pipeline.backends.testbed.settings import TestbedSettings
from poise_git.pipeline.backends.testbed.task import Problems, Task
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.backends.testbed.trainer import load_policy, weights_file
from poise_git.pipeline.pass_at_k import pass_at_k

Figures = dict[str, float]


def evaluate(arguments: Mapping[str, Any], send: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Child process: evaluate every policy that training saved in the working directory.

    Args:
        arguments: `settings` (of the testbed), `seed` and `suites` (names).
        send: gets {"done": points} after each.

    Returns:
        {"points": [{"step": int, "suites": suite -> figures}, ...]}, or {"failure": one line}.
    """
    torch.set_num_threads(1)
    settings = TestbedSettings.model_validate(arguments["settings"])
    seed, suites = int(arguments["seed"]), tuple(arguments["suites"])
    task = build_task(settings, settings.world(seed))
    problems = held_out(task, suites, settings.evaluation.problems, seed)
    steps = settings.evaluation_steps()
    points = []
    for step in steps:
        try:
            policy = load_policy(settings, task, Path(weights_file(step)))
        except Exception as error:  # torch.load raises what it likes on a file that is not one of weights
            reason = " ".join(str(error).split())[:200]
            return {"failure": f"cannot read the policy after step {step}: {reason}"}
        last = step == steps[-1]
        samples = settings.evaluation.final_samples if last else settings.evaluation.samples
        pass_at = settings.evaluation.pass_at if last else ()
        points.append({"step": step, "suites": evaluate_policy(policy, task, problems, samples, pass_at, seed)})
        send({"done": len(points)})
    return {"points": points}


def held_out(task: Task, suites: Sequence[str], n: int, seed: int) -> dict[str, Problems]:
    """`n` held-out problems of each suite. Another seed gives others, so that a fresh seed is a fresh test."""
    return {
        suite: task.held_out_problems(suite, n, np.random.default_rng([seed, 4, number]))
        for number, suite in enumerate(suites)
    }


def evaluate_policy(
    policy: Policy, task: Task, problems: Mapping[str, Problems], samples: int, pass_at: Sequence[int], seed: int
) -> dict[str, Figures]:
    """Figures of each suite, whose problems are equally many.

    Returns:
        suite -> "value" (mean of "acc@1" and "sampled"), "acc@1" (greedy accuracy), "sampled" (mean accuracy of the
        samples), "valid_rate" and "mean_length" (tokens) of the samples, and "pass@k" for each k of `pass_at`.
    """
    together = Problems.concatenate(list(problems.values()))
    greedy = decode_greedily(policy, together.prompts)
    _, greedy_correct = task.verify(together, greedy.tokens, greedy.lengths)
    uniforms = torch.rand(
        len(together) * samples, task.vocabulary.response_length, generator=torch.Generator().manual_seed(seed)
    )
    sampled = sample(policy, together.prompts, uniforms)
    valid, correct = task.verify(together.repeat(samples), sampled.tokens, sampled.lengths)
    by_suite = zip(
        problems,
        greedy_correct.reshape(len(problems), -1),
        correct.reshape(len(problems), -1, samples),
        valid.reshape(len(problems), -1),
        sampled.lengths.numpy().reshape(len(problems), -1),
        strict=True,
    )
    return {
        suite: {
            "value": float(one.mean() + many.mean()) / 2,
            "acc@1": float(one.mean()),
            "sampled": float(many.mean()),
            "valid_rate": float(ok.mean()),
            "mean_length": float(length.mean()),
            **{f"pass@{k}": float(np.mean([pass_at_k(samples, int(c), k) for c in many.sum(1)])) for k in pass_at},
        }
        for suite, one, many, ok, length in by_suite
    }
