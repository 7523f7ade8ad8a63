"""GRPO: group-relative policy optimization (arXiv:2402.03300), in stage functions.

    reward signal -> baseline -> scale -> advantage shaping -> token objective -> regularizer

Each stage is one small function, so that a mechanism is a change of one of them, two mechanisms of different
stages merge without a conflict, and a diff reads as the mechanism. The two entry points at the end,
`compute_advantages` and `policy_loss`, keep verl's contract and stay as they are; every backend calls them.

A hyper-parameter of a mechanism (a knob) is a keyword default of its stage function.

Shapes: N responses, T tokens of the longest one. This file imports torch, math and `.rollouts`, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .rollouts import Rollouts, aggregate_loss, masked_mean, to_tokens

# Advantages: computed once per batch of rollouts, one value a response, then given to its tokens.


def reward_signal(rollouts: Rollouts) -> Tensor:
    """What is to be maximised: the reward r_i itself. (N,)"""
    return rollouts.score


def baseline(signal: Tensor, rollouts: Rollouts) -> Tensor:
    """What a response is compared with: its group's mean. (N,)

    A group of one has nothing to be compared with: its baseline is 0, as in verl.
    """
    return torch.where(rollouts.group_size() > 1, rollouts.group_mean(signal), torch.zeros_like(signal))


def scale(signal: Tensor, rollouts: Rollouts, epsilon: float = 1e-6) -> Tensor:
    """What the difference is divided by: the group's sample standard deviation. (N,)

    A group of one has no deviation: it is divided by 1, as in verl.
    """
    spread = torch.where(rollouts.group_size() > 1, rollouts.group_std(signal), torch.ones_like(signal))
    return spread + epsilon


def shape_advantages(advantages: Tensor, rollouts: Rollouts) -> Tensor:
    """Reshape or reroute the advantages (N,) by what is known of each response; here nothing. (N,)"""
    return advantages


# Loss: computed on every mini-batch, token by token.


def shape_token_advantages(advantages: Tensor, old_log_prob: Tensor, response_mask: Tensor) -> Tensor:
    """Reshape the advantages (N, T) token by token, from the log-probabilities when sampled; here nothing. (N, T)"""
    return advantages


def importance_log_ratio(old_log_prob: Tensor, log_prob: Tensor, response_mask: Tensor) -> Tensor:
    """log r: how much likelier a token has become since it was sampled, token by token. (N, T)"""
    return torch.clamp(log_prob - old_log_prob, min=-20.0, max=20.0)


def token_objective(
    log_ratio: Tensor,
    advantages: Tensor,
    log_prob: Tensor,
    response_mask: Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float = 3.0,
) -> tuple[Tensor, Tensor]:
    """The surrogate of each token to be maximised, and where it was clipped (1.0): both (N, T).

    J = min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)   (PPO, arXiv:1707.06347, eq. 7),
    and for A < 0 not below dual_clip * A                  (dual clip, arXiv:1912.09729, eq. 5).
    """
    ratio = log_ratio.exp()
    plain = ratio * advantages
    clipped = torch.clamp(ratio, 1.0 - clip_low, 1.0 + clip_high) * advantages
    objective = torch.minimum(plain, clipped)
    objective = torch.where(advantages < 0, torch.maximum(objective, dual_clip * advantages), objective)
    return objective, (clipped < plain).to(objective.dtype)


def loss_aggregation(loss_agg_mode: str) -> str:
    """How token losses become one number; `aggregate_loss` lists the modes. Here: as the protocol says."""
    return loss_agg_mode


def regularizer(old_log_prob: Tensor, log_prob: Tensor, response_mask: Tensor) -> Tensor:
    """A penalty per token that is added to the loss; here nothing. (N, T)"""
    penalty = torch.zeros_like(log_prob)
    return penalty


# Entry points: verl's contract, the same in every candidate.


def compute_advantages(
    token_level_rewards: Tensor,
    response_mask: Tensor,
    index: Sequence[Any],
    config: Any = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """verl's advantage estimator: A_i = (signal_i - baseline_i) / scale_i, shaped, given to every token.

    Args:
        token_level_rewards: (N, T) rewards; a response's score is their sum.
        response_mask: (N, T), 1 on response tokens.
        index: N prompt identifiers; responses with the same one form a group.
        config: verl's algorithm section, not used.

    Returns:
        advantages and returns, the same tensor: (N, T), 0 on padding.
    """
    with torch.no_grad():
        rollouts = Rollouts.from_rewards(token_level_rewards, response_mask, index)
        signal = reward_signal(rollouts)
        advantages = (signal - baseline(signal, rollouts)) / scale(signal, rollouts)
        advantages = to_tokens(shape_advantages(advantages, rollouts), rollouts.mask)
    return advantages, advantages


def policy_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """verl's policy loss: minus the token objective, plus the regularizer, aggregated.

    Args:
        old_log_prob: (N, T) log-probabilities under the policy that sampled.
        log_prob: (N, T) log-probabilities under the policy being trained; the gradient flows through it.
        advantages: (N, T).
        response_mask: (N, T), 1 on response tokens.
        loss_agg_mode: see `aggregate_loss`.
        config: verl's actor section; only `global_batch_info` is read.
        rollout_is_weights: (N, T) corrections for a sampler that differs from the trainer, or None.

    Returns:
        the loss, a scalar, and metrics under verl's names.
    """
    advantages = shape_token_advantages(advantages, old_log_prob, response_mask)
    log_ratio = importance_log_ratio(old_log_prob, log_prob, response_mask)
    objective, clipped = token_objective(log_ratio, advantages, log_prob, response_mask)
    losses = regularizer(old_log_prob, log_prob, response_mask) - objective
    if rollout_is_weights is not None:
        losses = losses * rollout_is_weights
    loss = aggregate_loss(losses, response_mask, loss_aggregation(loss_agg_mode), config)
    metrics = {
        "actor/pg_clipfrac": masked_mean(clipped, response_mask).item(),
        "actor/ppo_kl": masked_mean(old_log_prob - log_prob, response_mask).item(),
    }
    return loss, metrics
