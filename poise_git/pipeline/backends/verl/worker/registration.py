"""Register the candidate with verl. `VERL_USE_EXTERNAL_MODULES` loads this in every process of a training run.

The candidate runs in processes behind the boundary. A worker's first call connects to one process, and to a second one
that repeats some calls as a check. A failure is written, in one line, to the file that the trainer's parent reads.
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

# The broker's socket or, if the user trusts the candidate, a file that holds its recipe.
DOOR = "POISE_DOOR"
TRUSTED_RECIPE = "POISE_TRUSTED_RECIPE"
FAILURE = "POISE_FAILURE_FILE"
ROLLOUTS = "POISE_ROLLOUTS_FILE"
SEED = "POISE_SEED"
# Rewards are sums of float32 terms, so a level is recognized within this distance.
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
    """verl's advantage estimator; see `recipe/algorithm.py`. Also records shares computed from the batch's rewards."""
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
    """verl's policy loss; its gradient reaches the policy through `log_prob` alone."""
    with _reporting():
        found = _algorithm().gradient(
            old_log_prob, log_prob, advantages, response_mask, loss_agg_mode, _sizes(config), rollout_is_weights
        )
    # The KL distance may end a run, so it is computed here, where the candidate cannot omit or falsify it.
    new, weight = log_prob.detach(), response_mask.to(log_prob.dtype)
    kl = ((old_log_prob - new) * weight).sum() / weight.sum().clamp(min=1.0)
    clipped = clip_fraction(found.by_log_probs, old_log_prob, new, advantages, response_mask)
    # A function of log_prob with the candidate's value and the candidate's derivative.
    surrogate = ((log_prob - new) * found.by_log_probs).sum() + found.loss
    return surrogate, {"actor/ppo_kl": float(kl), "actor/pg_clipfrac": clipped}


def _sizes(config: Any) -> Mapping[str, float] | None:
    """The sizes of the whole batch as plain numbers. The candidate gets no other setting of verl."""
    info = getattr(config, "global_batch_info", None)
    if not info:
        return None
    return {
        name: value.item() if isinstance(value, Tensor) else value
        for name, value in info.items()
        if isinstance(value, int | float | Tensor)
    }


def _record(token_level_rewards: Tensor, response_mask: Tensor, index: Sequence[Any]) -> None:
    """Write one line per step: the shares of valid and correct responses, and of prompts without a correct one."""
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
