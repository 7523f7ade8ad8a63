"""Answer one question of the trusted side, in the process that holds the candidate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poise_git.pipeline.boundary import calls
from poise_git.pipeline.boundary.failures import CandidateFailed
from poise_git.pipeline.boundary.frames import Frame, plain
from poise_git.pipeline.boundary.loading import load
from poise_git.pipeline.boundary.second_device import on_second_device

_MOST_METRICS = 64
_ADVANTAGE_ARGUMENTS: tuple[str, ...] = ("token_level_rewards", "response_mask", "index")
_LOSS_ARGUMENTS: tuple[str, ...] = ("old_log_prob", "log_prob", "advantages", "response_mask", "rollout_is_weights")


def load_candidate(recipe: Mapping[str, str]) -> ModuleType:
    """The recipe's algorithm as a module that has both entry points. Raises CandidateFailed."""
    module: ModuleType = calls.guard("importing recipe/algorithm.py", lambda: load(recipe))
    for name in calls.ENTRY_POINTS:
        if not callable(vars(module).get(name)):
            raise CandidateFailed(f"recipe/algorithm.py defines no function {name}")
    return module


def answer(module: ModuleType, frame: Frame) -> tuple[dict[str, Any], Sequence[Tensor]]:
    """Call an entry point the requested number of times, and describe its last result."""
    for _ in range(frame.content.get("times", 1) - 1):
        _call(module, frame)
    return _call(module, frame)


def _call(module: ModuleType, frame: Frame) -> tuple[dict[str, Any], Sequence[Tensor]]:
    asked, config = frame.content, calls.configuration(frame.content["sizes"])
    calls.seeded(asked["seed"])
    kept = [tensor.clone() for tensor in frame.tensors] if asked.get("watch") else None
    if asked["ask"] == "compute_advantages":
        rewards, mask, index = frame.tensors
        identifiers = _identifiers(index, asked)

        def advantages_of(rewards: Tensor, mask: Tensor) -> Any:
            return calls.call_advantages(module, rewards, mask, identifiers, config)

        returned = _on_device(asked, advantages_of, rewards, mask)
        content, tensors = _described(returned)
        names = _ADVANTAGE_ARGUMENTS
    else:
        old, new, advantages, mask, *weights = frame.tensors

        def loss_of(*tensors: Any) -> tuple[Any, ...]:
            found = calls.call_loss(module, asked["aggregation"], config, *tensors)
            return found.loss, found.metrics, found.gradient

        loss = calls.Loss(*_on_device(asked, loss_of, old, new, advantages, mask, *(weights or (None,))))
        content, tensors = _described((loss.loss,))
        content |= {"metrics": _metrics(loss.metrics)}
        if loss.gradient is not None:
            tensors = (*tensors, loss.gradient)
        names = _LOSS_ARGUMENTS
    tensors = calls.guard(f"what {asked['ask']} returned", lambda: tuple(map(plain, tensors)))
    if kept is not None:
        pairs = zip(names, frame.tensors, kept, strict=False)
        content["changed"] = [name for name, after, before in pairs if not torch.equal(after, before)]
    return content, tensors


def _on_device(asked: Mapping[str, Any], call: Callable[..., Any], *tensors: Tensor | None) -> Any:
    """The value of `call`; its tensors claim another device if asked."""
    if not asked.get("elsewhere"):
        return call(*tensors)
    return calls.guard(str(asked["ask"]), lambda: on_second_device(call, *tensors))


def _identifiers(index: Tensor, asked: Mapping[str, Any]) -> Any:
    """Prompt identifiers in the requested form; numbers by default."""
    numbers = index.tolist()
    labels = asked.get("labels")
    named = numbers if labels is None else [labels[number] for number in numbers]
    if asked.get("as_array"):
        return np.array(named, dtype=object)
    return named


def _described(returned: Any) -> tuple[dict[str, Any], tuple[Tensor, ...]]:
    """Every element of a returned tuple in words, and its tensors; a tensor that occurs twice is sent once."""
    if not isinstance(returned, tuple) or len(returned) > 2:
        return {"returned": calls.kind(returned)}, ()
    described: list[dict[str, Any]] = []
    tensors: list[Tensor] = []
    for value in returned:
        if not isinstance(value, Tensor):
            described.append({"value": calls.kind(value)})
        elif tensors and value is tensors[0]:
            described.append({"tensor": 0, "requires_grad": value.requires_grad})
        else:
            described.append({"tensor": len(tensors), "requires_grad": value.requires_grad})
            tensors.append(value)
    return {"returned": described}, tuple(tensors)


def _metrics(metrics: Any) -> Any:
    """Names and floats unchanged; anything else in words."""
    if not isinstance(metrics, Mapping):
        return calls.kind(metrics)
    return [
        [name if isinstance(name, str) else repr(name), value if type(value) in (float, int) else calls.kind(value)]
        for name, value in list(metrics.items())[:_MOST_METRICS]
    ]
