"""Registers the candidate with verl. Loaded in every process of a training run by `VERL_USE_EXTERNAL_MODULES`.

The candidate's own code is imported by the first call that needs it, so only by the processes that compute advantages
and losses. What it does wrong is written, in one line, to the file that the trainer's parent reads.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import register_adv_est, register_policy_loss

from poise_git.pipeline.backends.verl.configuration import ESTIMATOR_NAME, POLICY_LOSS_NAME
from poise_git.pipeline.candidate import Algorithm, CandidateFailed

RECIPE = "POISE_RECIPE"
FAILURE = "POISE_FAILURE_FILE"
ROLLOUTS = "POISE_ROLLOUTS_FILE"
SEED = "POISE_SEED"
# Rewards are sums of float32 terms; a level is recognised within this distance.
_LEVEL_TOLERANCE = 1e-4


@functools.cache
def _algorithm() -> Algorithm:
    # The candidate has the global generator of its process for itself: what it draws is seeded.
    torch.manual_seed(int(os.environ[SEED]))
    return Algorithm(Path(os.environ[RECIPE]))


@contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except CandidateFailed as failure:
        Path(os.environ[FAILURE]).write_text(str(failure), encoding="utf-8")
        raise


@register_adv_est(ESTIMATOR_NAME)  # type: ignore[untyped-decorator, unused-ignore]
def compute_advantages(
    token_level_rewards: Tensor, response_mask: Tensor, index: Sequence[Any], config: Any = None, **others: Any
) -> tuple[Tensor, Tensor]:
    """verl's estimator: see `recipe/algorithm.py`. Also records what the rewards say of the batch."""
    _record(token_level_rewards, response_mask, index)
    with _reporting():
        advantages = _algorithm().advantages(token_level_rewards, response_mask, index, config)
    return advantages, advantages


@register_policy_loss(POLICY_LOSS_NAME)  # type: ignore[untyped-decorator, unused-ignore]
def policy_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """verl's policy loss, whose gradient reaches the policy through `log_prob` alone."""
    with _reporting():
        loss, gradient, metrics = _algorithm().loss_gradient(
            old_log_prob, log_prob, advantages, response_mask, loss_agg_mode, config, rollout_is_weights
        )
    # Computed here, where the candidate cannot forget it or make it up: it may end a run.
    weight = response_mask.to(log_prob.dtype)
    kl = ((old_log_prob - log_prob.detach()) * weight).sum() / weight.sum().clamp(min=1.0)
    # The candidate's value, and the candidate's derivative, as a function of log_prob.
    surrogate = ((log_prob - log_prob.detach()) * gradient).sum() + loss
    figures = {str(name): float(value) for name, value in metrics.items() if _is_figure(value)}
    return surrogate, figures | {"actor/ppo_kl": float(kl)}


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _record(token_level_rewards: Tensor, response_mask: Tensor, index: Sequence[Any]) -> None:
    """One line a step: the shares of responses that are valid and correct, and of prompts that nothing solved."""
    score = (token_level_rewards * response_mask).sum(-1)
    correct = (score > 1.0 - _LEVEL_TOLERANCE).tolist()
    solved = dict.fromkeys(index, False)
    for prompt, right in zip(index, correct, strict=True):
        solved[prompt] |= right
    line = {
        "correct_rate": sum(correct) / len(correct),
        "valid_rate": float((score > _LEVEL_TOLERANCE).double().mean()),
        "all_fail_rate": 1.0 - sum(solved.values()) / len(solved),
    }
    with Path(os.environ[ROLLOUTS]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
