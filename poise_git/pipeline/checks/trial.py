"""A candidate under test: its module, and what its two entry points say to a batch. Child processes only."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from poise_git.pipeline.checks.batches import Batch
from poise_git.pipeline.checks.second_device import on_second_device

AGGREGATION = "token-mean"
_RECIPE = "__poise_recipe__"
_NUMBERS = count()


@dataclass(frozen=True)
class Outcome:
    """What the policy loss of a batch was: a scalar, its gradient for log_prob (N, T), and the metrics."""

    loss: Tensor
    gradient: Tensor
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Trial:
    """One loaded recipe.

    Attributes:
        algorithm: its module.
        elsewhere: whether its calls run on the second device; the results come back on the CPU.
    """

    algorithm: ModuleType
    elsewhere: bool = False

    def restarted(self) -> Trial:
        """The same recipe, imported anew: without anything that earlier calls left behind."""
        package = self.algorithm.__name__.rpartition(".")[0]
        recipe, folder = vars(sys.modules[package])[_RECIPE]
        again = f"{package}_{next(_NUMBERS)}"
        if folder.is_dir():
            module = load_algorithm(recipe, folder, again)
        else:
            with tempfile.TemporaryDirectory() as other:
                module = load_algorithm(recipe, Path(other), again)
        return replace(self, algorithm=module)

    def on_second_device(self) -> Trial:
        """The same candidate, called with tensors of another device."""
        return replace(self, elsewhere=True)

    def advantages(self, batch: Batch) -> Tensor:
        """(N, T)"""

        def call(rewards: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            found: tuple[Tensor, Tensor] = self.algorithm.compute_advantages(rewards, mask, batch.index, None)
            return found

        advantages: Tensor = self._run(call, batch.rewards.clone(), batch.mask.clone())[0]
        return advantages

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
        aggregation: str = AGGREGATION,
    ) -> Outcome:
        """The loss of the batch with the candidate's own advantages, or with those given."""

        def call(
            old_log_prob: Tensor, log_prob: Tensor, advantages: Tensor, mask: Tensor, weights: Tensor | None
        ) -> tuple[Tensor, Tensor | None, Mapping[str, float]]:
            loss, metrics = self.algorithm.policy_loss(
                old_log_prob, log_prob, advantages, mask, aggregation, config, weights
            )
            return loss, torch.autograd.grad(loss, log_prob, allow_unused=True)[0], metrics

        log_prob = batch.log_prob.clone().requires_grad_()
        loss, gradient, metrics = self._run(
            call,
            batch.old_log_prob.clone(),
            log_prob,
            self.advantages(batch) if advantages is None else advantages,
            batch.mask.bool() if mask is None else mask,
            weights,
        )
        return Outcome(loss.detach(), torch.zeros_like(log_prob) if gradient is None else gradient, metrics)

    def _run(self, call: Callable[..., Any], *tensors: Tensor | None) -> Any:
        return on_second_device(call, *tensors) if self.elsewhere else call(*tensors)


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
    setattr(sys.modules[package], _RECIPE, (dict(recipe), folder))
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
