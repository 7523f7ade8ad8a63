"""A candidate under test, on the trusted side: what its process answers to a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from poise_git.pipeline.boundary import CandidateFailed
from poise_git.pipeline.boundary.interface import groups
from poise_git.pipeline.boundary.process import Answering
from poise_git.pipeline.checks.batches import Batch

AGGREGATION = "token-mean"

# Opens a fresh process of the recipe of that name; raises CandidateFailed.
Open = Callable[[str], Answering]


@dataclass(frozen=True)
class Returned:
    """What an entry point returned.

    Attributes:
        described: words for what is no tuple of at most two elements; else for each element a mapping, of which
            "tensor" is its place among `tensors`, and "value" is words for what is no tensor.
        metrics: of a loss: words for what is no mapping, else pairs of a name and a float, or words for what is none.
        changed: the arguments that the call changed in place, where that was asked.
    """

    described: Any
    tensors: tuple[Tensor, ...]
    metrics: Any = None
    changed: Sequence[str] = ()

    def tensor(self, position: int) -> Tensor | None:
        """Element `position`, where it is a tensor."""
        match self.described:
            case [*elements] if len(elements) > position:
                match elements[position]:
                    case {"tensor": int(place)} if 0 <= place < len(self.tensors):
                        return self.tensors[place]
        return None


@dataclass(frozen=True)
class Outcome:
    """What the policy loss of a batch was: a scalar and its gradient for log_prob (N, T)."""

    loss: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Trial:
    """One recipe in one process. Every method raises CandidateFailed.

    `elsewhere`: the process calls it with tensors that claim another device; results come back on the CPU.
    """

    open: Open
    recipe: str
    process: Answering
    elsewhere: bool = False

    @classmethod
    def of(cls, open_process: Open, recipe: str) -> Trial:
        return cls(open_process, recipe, open_process(recipe))

    def restarted(self) -> Trial:
        """The same recipe in a fresh process; this one goes on."""
        return Trial.of(self.open, self.recipe)

    def on_second_device(self) -> Trial:
        """The same process, called with tensors of another device."""
        return replace(self, elsewhere=True)

    def close(self) -> None:
        self.process.close()

    def call_advantages(
        self,
        batch: Batch,
        *,
        mask: Tensor | None = None,
        sizes: Mapping[str, float] | None = None,
        seed: int = 0,
        watch: bool = False,
    ) -> Returned:
        """compute_advantages on the batch; with `watch` it is told which arguments the call changed."""
        labels, as_array = _labels(batch.index)
        content = {**self._content(sizes, seed, watch), "labels": labels, "as_array": as_array}
        tensors = (batch.rewards, batch.mask if mask is None else mask, groups(batch.index))
        frame = self.process.ask("compute_advantages", content, tensors)
        return Returned(frame.content.get("returned"), frame.tensors, changed=_texts(frame.content.get("changed")))

    def call_loss(
        self,
        batch: Batch,
        advantages: Tensor,
        *,
        mask: Tensor | None = None,
        sizes: Mapping[str, float] | None = None,
        weights: Tensor | None = None,
        aggregation: str = AGGREGATION,
        seed: int = 0,
        watch: bool = False,
    ) -> Returned:
        """policy_loss on the batch; the gradient is the last tensor, where the loss has one."""
        given = batch.mask.bool() if mask is None else mask
        tensors = (batch.old_log_prob, batch.log_prob, advantages, given, *(() if weights is None else (weights,)))
        content = {**self._content(sizes, seed, watch), "aggregation": aggregation}
        frame = self.process.ask("policy_loss", content, tensors)
        said = frame.content
        return Returned(said.get("returned"), frame.tensors, said.get("metrics"), _texts(said.get("changed")))

    def _content(self, sizes: Mapping[str, float] | None, seed: int, watch: bool) -> dict[str, Any]:
        return {"sizes": sizes, "seed": seed, "watch": watch, "elsewhere": self.elsewhere}

    def advantages(self, batch: Batch, *, seed: int = 0) -> Tensor:
        """(N, T)"""
        found = self.call_advantages(batch, seed=seed).tensor(0)
        if found is None or found.shape != batch.rewards.shape:
            raise CandidateFailed("compute_advantages returned no advantages of the rewards' shape")
        return found

    def response_advantages(self, batch: Batch) -> Tensor:
        """Each response's mean advantage over its tokens. (N,)"""
        weight = batch.mask.to(batch.rewards.dtype)
        return (self.advantages(batch) * weight).sum(-1) / weight.sum(-1).clamp(min=1.0)

    def outcome(
        self,
        batch: Batch,
        advantages: Tensor | None = None,
        mask: Tensor | None = None,
        sizes: Mapping[str, float] | None = None,
        weights: Tensor | None = None,
        aggregation: str = AGGREGATION,
        seed: int = 0,
    ) -> Outcome:
        """The loss of the batch with the candidate's own advantages, or with those given."""
        given = self.advantages(batch) if advantages is None else advantages
        found = self.call_loss(
            batch, given, mask=mask, sizes=sizes, weights=weights, aggregation=aggregation, seed=seed
        )
        match found.tensors:
            case (loss, gradient) if loss.numel() == 1 and gradient.shape == batch.log_prob.shape:
                return Outcome(loss.reshape(()), gradient)
        raise CandidateFailed("policy_loss returned no scalar loss with a gradient")


def opener(processes: Callable[[str], Answering], opened: list[Answering]) -> Open:
    """`processes`, remembering in `opened` what is to be closed."""

    def open_process(recipe: str) -> Answering:
        process = processes(recipe)
        opened.append(process)
        return process

    return open_process


def _labels(index: Any) -> tuple[list[Any], bool]:
    """The distinct identifiers in the order in which they first appear, and whether they came as an array."""
    return list(dict.fromkeys(index)), isinstance(index, np.ndarray)


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(str(value) for value in values) if isinstance(values, list) else ()
