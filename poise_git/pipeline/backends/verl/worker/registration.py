"""Registers the candidate with verl. Loaded in every process of a training run by `VERL_USE_EXTERNAL_MODULES`.

The candidate runs in processes behind the boundary: the first call of a worker that needs it connects to one, and to a
second as its witness. What it does wrong is written, in one line, to the file that the trainer's parent reads.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from verl.trainer.ppo.core_algos import register_adv_est, register_policy_loss

from poise_git.pipeline.backends.verl.configuration import ESTIMATOR_NAME, POLICY_LOSS_NAME
from poise_git.pipeline.boundary import CandidateFailed
from poise_git.pipeline.boundary.algorithm import GuardedAlgorithm
from poise_git.pipeline.boundary.broker import connect
from poise_git.pipeline.boundary.interface import clip_fraction
from poise_git.pipeline.boundary.opening import trusted_algorithm
from poise_git.pipeline.boundary.process import CandidateProcess

# The broker's socket; or, where the user trusts the candidate, a file that holds its recipe.
DOOR = "POISE_DOOR"
TRUSTED_RECIPE = "POISE_TRUSTED_RECIPE"
FAILURE = "POISE_FAILURE_FILE"
ROLLOUTS = "POISE_ROLLOUTS_FILE"
SEED = "POISE_SEED"
# Rewards are sums of float32 terms; a level is recognised within this distance.
_LEVEL_TOLERANCE = 1e-4


@functools.cache
def _algorithm() -> GuardedAlgorithm:
    seed = int(os.environ[SEED])
    if file := os.environ.get(TRUSTED_RECIPE):
        return trusted_algorithm(json.loads(Path(file).read_text(encoding="utf-8")), seed)
    door = Path(os.environ[DOOR])
    process, witness = (CandidateProcess(connect(door)) for _ in range(2))
    return GuardedAlgorithm(process, witness, seed)


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
        advantages = _algorithm().advantages(token_level_rewards, response_mask, index)
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
        found = _algorithm().gradient(
            old_log_prob, log_prob, advantages, response_mask, loss_agg_mode, _sizes(config), rollout_is_weights
        )
    # Computed here, where the candidate cannot forget them or make them up: the distance may end a run.
    new, weight = log_prob.detach(), response_mask.to(log_prob.dtype)
    kl = ((old_log_prob - new) * weight).sum() / weight.sum().clamp(min=1.0)
    clipped = clip_fraction(found.by_log_probs, old_log_prob, new, advantages, response_mask)
    # The candidate's value, and the candidate's derivative, as a function of log_prob.
    surrogate = ((log_prob - new) * found.by_log_probs).sum() + found.loss
    return surrogate, {"actor/ppo_kl": float(kl), "actor/pg_clipfrac": clipped}


def _sizes(config: Any) -> Mapping[str, float] | None:
    """The sizes of the whole batch, as plain numbers; nothing else of verl's settings reaches the candidate."""
    info = getattr(config, "global_batch_info", None)
    if not info:
        return None
    return {
        name: value.item() if isinstance(value, Tensor) else value
        for name, value in info.items()
        if isinstance(value, int | float | Tensor)
    }


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
