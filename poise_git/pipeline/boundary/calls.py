"""Call a candidate's entry points, in the process that holds its module."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from poise_git.pipeline.boundary.failures import CandidateFailed, one_line
from poise_git.pipeline.recipe import ALGORITHM

ENTRY_POINTS = ("compute_advantages", "policy_loss")


@dataclass(frozen=True)
class Loss:
    """The result of policy_loss, and the derivative by log_prob if the loss has one."""

    loss: Any
    metrics: Any
    gradient: Tensor | None


def seeded(seed: int) -> None:
    """Seed the candidate's random numbers with its inputs and a number that the trusted side chooses."""
    torch.default_generator.manual_seed(seed)


def configuration(sizes: Mapping[str, float] | None) -> Any:
    """The part of verl's actor section that a candidate may use."""
    return None if sizes is None else SimpleNamespace(global_batch_info=dict(sizes))


def call_advantages(module: ModuleType, rewards: Tensor, mask: Tensor, index: Sequence[Any], config: Any) -> Any:
    """The result of compute_advantages, unvalidated. Raises CandidateFailed."""
    return guard("compute_advantages", lambda: module.compute_advantages(rewards, mask, index, config=config))


def call_loss(
    module: ModuleType,
    aggregation: str,
    config: Any,
    old_log_probs: Tensor,
    log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    rollout_is_weights: Tensor | None = None,
) -> Loss:
    """Call policy_loss and differentiate it by a separate leaf, so that only the gradient can reach the policy.

    Raises:
        CandidateFailed.
    """
    leaf = log_probs.detach().clone().requires_grad_()
    returned = guard(
        "policy_loss",
        lambda: module.policy_loss(
            old_log_probs,
            leaf,
            advantages,
            mask,
            loss_agg_mode=aggregation,
            config=config,
            rollout_is_weights=rollout_is_weights,
        ),
    )
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise CandidateFailed(f"policy_loss must return (loss, metrics), it returned {kind(returned)}")
    loss, metrics = returned
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        return Loss(loss, metrics, None)
    guard("the gradient of policy_loss", loss.backward)
    return Loss(loss.detach(), metrics, leaf.grad if leaf.grad is not None else torch.zeros_like(leaf))


def guard(what: str, call: Callable[[], Any]) -> Any:
    """The value of `call`; any exception, even out of memory, becomes one line with its place in the recipe."""
    try:
        return call()
    except CandidateFailed:
        raise
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise CandidateFailed(
            one_line(f"{what} raised {type(error).__name__}: {_text(error)}{_place(error)}")
        ) from error


def kind(value: object) -> str:
    """Describe a value in words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and type {value.dtype}"
    return (
        f"{value!r:.40} ({type(value).__name__})" if type(value) in (float, int, str) else f"a {type(value).__name__}"
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        # The candidate can define `__str__`, which can raise anything, SystemExit too.
        return "an error that cannot be printed"


def _place(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == ALGORITHM]
    if not frames:
        return ""
    return f" ({ALGORITHM} line {frames[-1].lineno}, in {frames[-1].name}: {frames[-1].line})"
