"""A candidate under test: its module, and what its two entry points say to a batch. Child processes only."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from poise_git.pipeline.checks.batches import Batch

AGGREGATION = "token-mean"


@dataclass(frozen=True)
class Outcome:
    """What the policy loss of a batch was: a scalar, its gradient for log_prob (N, T), and the metrics."""

    loss: Tensor
    gradient: Tensor
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Trial:
    """One loaded recipe."""

    algorithm: ModuleType

    def advantages(self, batch: Batch) -> Tensor:
        """(N, T)"""
        found: tuple[Tensor, Tensor] = self.algorithm.compute_advantages(
            batch.rewards.clone(), batch.mask.clone(), batch.index, None
        )
        return found[0]

    def response_advantages(self, batch: Batch) -> Tensor:
        """Each response's mean advantage over its tokens. (N,)"""
        weight = batch.mask.to(batch.rewards.dtype)
        return (self.advantages(batch) * weight).sum(-1) / weight.sum(-1).clamp(min=1.0)

    def outcome(
        self,
        batch: Batch,
        advantages: Tensor | None = None,
        mask: Tensor | None = None,
        config: Any = None,
        weights: Tensor | None = None,
    ) -> Outcome:
        """The loss of the batch with the candidate's own advantages, or with those given."""
        log_prob = batch.log_prob.clone().requires_grad_()
        loss, metrics = self.algorithm.policy_loss(
            batch.old_log_prob.clone(),
            log_prob,
            self.advantages(batch) if advantages is None else advantages,
            batch.mask.bool() if mask is None else mask,
            AGGREGATION,
            config,
            weights,
        )
        (gradient,) = torch.autograd.grad(loss, log_prob, allow_unused=True)
        return Outcome(loss.detach(), torch.zeros_like(log_prob) if gradient is None else gradient, metrics)


def load_algorithm(recipe: Mapping[str, str], folder: Path, package: str) -> ModuleType:
    """Write the recipe to `folder/package` and import its algorithm under that package's name.

    Raises: whatever the candidate's code raises.
    """
    home = folder / package
    home.mkdir()
    for name, text in recipe.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(package, home / "__init__.py", submodule_search_locations=[str(home)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules[package] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[package])
    return importlib.import_module(f"{package}.algorithm")


def place(error: Exception, folder: Path) -> str:
    """The error in one line, with where in the recipe it happened."""
    calls = traceback.extract_tb(error.__traceback__)
    frames = [call for call in calls if Path(call.filename).is_relative_to(folder)]
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if not frames:
        return text
    frame = frames[-1]
    return f"{text} ({Path(frame.filename).name} line {frame.lineno}, in {frame.name}: {frame.line})"
