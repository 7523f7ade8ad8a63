"""A candidate's two entry points, guarded: whatever it does wrong becomes one sentence.

Only sandboxed training processes import a candidate.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# A package name that nothing installed has: some wheels bring a top-level `recipe`.
PACKAGE = "poise_candidate"


class CandidateFailed(Exception):
    """The candidate's code did something wrong; the message says what, on one line."""


class Algorithm:
    """The recipe in `folder`, imported. Raises CandidateFailed, here and from both methods."""

    def __init__(self, folder: Path) -> None:
        module = _guard("importing recipe/algorithm.py", lambda: _import(folder))
        self._compute_advantages = _entry_point(module, "compute_advantages")
        self._policy_loss = _entry_point(module, "policy_loss")

    def advantages(self, rewards: Tensor, mask: Tensor, index: Sequence[Any], config: Any = None) -> Tensor:
        """Advantages (N, T) of token rewards (N, T) under `mask` (N, T); `index` holds N prompt identifiers."""
        result = _guard(
            "compute_advantages", lambda: self._compute_advantages(rewards, mask.clone(), index, config=config)
        )
        if not isinstance(result, tuple) or len(result) != 2:
            raise CandidateFailed(f"compute_advantages returned {_kind(result)}, not (advantages, returns)")
        advantages = result[0]
        if not isinstance(advantages, Tensor) or advantages.shape != rewards.shape:
            shape = tuple(rewards.shape)
            raise CandidateFailed(f"compute_advantages returned {_kind(advantages)}, not a tensor {shape}")
        if not advantages.is_floating_point():
            raise CandidateFailed(f"compute_advantages returned {advantages.dtype}, not {rewards.dtype}")
        _require_finite("advantage", advantages)
        return advantages.detach().to(rewards.dtype)

    def loss_gradient(
        self,
        old_log_probs: Tensor,
        log_probs: Tensor,
        advantages: Tensor,
        mask: Tensor,
        aggregation: str,
        config: Any = None,
        rollout_is_weights: Tensor | None = None,
    ) -> tuple[float, Tensor, Mapping[str, Any]]:
        """The loss, its derivative by log_probs (N, T), and the metrics that the candidate reports.

        The candidate differentiates a copy, so that it can reach the policy by this gradient alone.
        """
        leaf = log_probs.detach().clone().requires_grad_()

        def call() -> tuple[Any, Any]:
            result = self._policy_loss(
                old_log_probs,
                leaf,
                advantages,
                mask.clone(),
                loss_agg_mode=aggregation,
                config=config,
                rollout_is_weights=rollout_is_weights,
            )
            if not isinstance(result, tuple) or len(result) != 2:
                raise CandidateFailed(f"policy_loss returned {_kind(result)}, not (loss, metrics)")
            return result

        loss, metrics = _guard("policy_loss", call)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise CandidateFailed(f"policy_loss returned {_kind(loss)}, not a scalar tensor")
        _require_finite("loss", loss)
        if not loss.requires_grad:
            raise CandidateFailed("policy_loss returned a loss that does not depend on log_prob")
        _guard("the gradient of policy_loss", loss.backward)
        gradient = leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)
        _require_finite("gradient", gradient)
        return float(loss.detach()), gradient * mask, metrics if isinstance(metrics, Mapping) else {}


def _import(folder: Path) -> Any:
    """`folder`/algorithm.py as a module of the package PACKAGE, which needs no __init__.py."""
    spec = importlib.util.spec_from_loader(PACKAGE, loader=None, is_package=True)
    if spec is None:
        raise CandidateFailed(f"{folder.name} is not a package")
    spec.submodule_search_locations = [str(folder)]
    # What an earlier import left, its state included, is not this recipe's.
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{PACKAGE}.algorithm")


def _entry_point(module: Any, name: str) -> Callable[..., Any]:
    found = getattr(module, name, None)
    if not callable(found):
        raise CandidateFailed(f"recipe/algorithm.py defines no function {name}")
    return found  # type: ignore[no-any-return]


def _guard(what: str, call: Callable[[], Any]) -> Any:
    """The value of `call`; anything but memory running out or an interruption that it raises becomes one line."""
    try:
        return call()
    except CandidateFailed:
        raise
    except (Exception, SystemExit) as error:
        message = " ".join(str(error).split())
        raise CandidateFailed(f"{what} raised {type(error).__name__}: {message}"[:300]) from error


def _kind(value: Any) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _require_finite(name: str, values: Tensor) -> None:
    if bool(values.isnan().any()):
        raise CandidateFailed(f"{name} is NaN")
    if bool(values.isinf().any()):
        raise CandidateFailed(f"{name} is infinite")
