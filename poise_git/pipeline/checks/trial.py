"""A candidate under test, on the trusted side: the answers of its process to a batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poise_git.pipeline.boundary import CandidateFailed
from poise_git.pipeline.boundary.frames import Frame
from poise_git.pipeline.boundary.interface import groups
from poise_git.pipeline.boundary.process import Answering, Question
from poise_git.pipeline.checks.batches import Batch

AGGREGATION = "token-mean"

# Opens a fresh process of the recipe of that name; raises CandidateFailed.
Open = Callable[[str], Answering]


@dataclass(frozen=True)
class Returned:
    """The result of an entry point.

    Attributes:
        described: for a tuple of at most two elements, one mapping per element: "tensor" is its place among `tensors`,
            or "value" describes it in words. Words for any other result.
        metrics: the metrics of a loss: for a mapping, pairs of a name and a float, or words in place of a wrong pair.
            Words for any other value.
        changed: the arguments that the call changed in place, if the question asked for them.
    """

    described: Any
    tensors: tuple[Tensor, ...]
    metrics: Any = None
    changed: Sequence[str] = ()

    def tensor(self, position: int) -> Tensor | None:
        """Element `position`, if it is a tensor."""
        match self.described:
            case [*elements] if len(elements) > position:
                match elements[position]:
                    case {"tensor": int(place)} if 0 <= place < len(self.tensors):
                        return self.tensors[place]
        return None


@dataclass(frozen=True)
class Outcome:
    """The policy loss of a batch: a scalar and its gradient for log_prob (N, T)."""

    loss: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Case:
    """One call of policy_loss; all tensors are (N, T)."""

    batch: Batch
    advantages: Tensor
    mask: Tensor | None = None
    sizes: Mapping[str, float] | None = None
    weights: Tensor | None = None
    aggregation: str = AGGREGATION
    seed: int = 0


@dataclass(frozen=True)
class Trial:
    """One recipe in one process. Every method raises CandidateFailed.

    `elsewhere`: the process calls it with tensors that claim another device; results come back on the CPU.
    `answers`: the answers to earlier questions, which are not asked again; None: ask every question.
    """

    open: Open
    recipe: str
    process: Answering
    elsewhere: bool = False
    answers: dict[Any, Frame] | None = None

    @classmethod
    def of(cls, open_process: Open, recipe: str) -> Trial:
        return cls(open_process, recipe, open_process(recipe))

    def restarted(self) -> Trial:
        """The same recipe in a fresh process; this one continues."""
        return Trial.of(self.open, self.recipe)

    def remembering(self) -> Trial:
        """The same process, with known answers reused."""
        return replace(self, answers={})

    def forgetting(self) -> Trial:
        """The same process, with a call for every question."""
        return replace(self, answers=None)

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
        """Call compute_advantages on the batch; with `watch` also report the arguments that the call changed."""
        (frame,) = self._answers([self._about_advantages(batch, mask, sizes, seed, watch)])
        return Returned(frame.content.get("returned"), frame.tensors, changed=_texts(frame.content.get("changed")))

    def call_loss(self, case: Case, *, watch: bool = False) -> Returned:
        """Call policy_loss on a batch; the gradient is the last tensor, if the loss has one."""
        (frame,) = self._answers([self._about_loss(case, watch)])
        return _returned_loss(frame)

    def advantages(self, batch: Batch, *, seed: int = 0) -> Tensor:
        """(N, T)"""
        return self.all_advantages([batch], seed=seed)[0]

    def all_advantages(self, given: Sequence[Batch], *, seed: int = 0) -> list[Tensor]:
        """(N, T) of each batch."""
        frames = self._answers([self._about_advantages(batch, seed=seed) for batch in given])
        return [_advantages(frame, batch) for frame, batch in zip(frames, given, strict=True)]

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
        return self.outcomes([Case(batch, given, mask, sizes, weights, aggregation, seed)])[0]

    def outcomes(self, cases: Sequence[Case]) -> list[Outcome]:
        frames = self._answers([self._about_loss(case) for case in cases])
        return [_outcome(frame, case) for frame, case in zip(frames, cases, strict=True)]

    def wear(self, cases: Iterable[Case], times: int = 1) -> None:
        """Call both entry points this many times each, with one batch after the other, and ignore the answers."""
        pairs = ((self._about_advantages(case.batch), self._about_loss(case)) for case in cases)
        self._answers([question.repeated(times) for pair in pairs for question in pair])

    def _about_advantages(
        self,
        batch: Batch,
        mask: Tensor | None = None,
        sizes: Mapping[str, float] | None = None,
        seed: int = 0,
        watch: bool = False,
    ) -> Question:
        labels, as_array = _labels(batch.index)
        content = {**self._content(sizes, seed, watch), "labels": labels, "as_array": as_array}
        tensors = (batch.rewards, batch.mask if mask is None else mask, groups(batch.index))
        return Question("compute_advantages", content, tensors)

    def _about_loss(self, case: Case, watch: bool = False) -> Question:
        batch = case.batch
        given = batch.mask.bool() if case.mask is None else case.mask
        weights = () if case.weights is None else (case.weights,)
        tensors = (batch.old_log_prob, batch.log_prob, case.advantages, given, *weights)
        content = {**self._content(case.sizes, case.seed, watch), "aggregation": case.aggregation}
        return Question("policy_loss", content, tensors)

    def _content(self, sizes: Mapping[str, float] | None, seed: int, watch: bool) -> dict[str, Any]:
        return {"sizes": sizes, "seed": seed, "watch": watch, "elsewhere": self.elsewhere}

    def _answers(self, questions: Sequence[Question]) -> list[Frame]:
        if self.answers is None:
            return self.process.ask_all(questions)
        keys = [_key(question) for question in questions]
        new = {key: question for key, question in zip(keys, questions, strict=True) if key not in self.answers}
        self.answers.update(zip(new, self.process.ask_all(list(new.values())), strict=True))
        return [self.answers[key] for key in keys]


def opener(processes: Callable[[str], Answering], opened: list[Answering]) -> Open:
    """Open processes, and record in `opened` those that must be closed."""

    def open_process(recipe: str) -> Answering:
        process = processes(recipe)
        opened.append(process)
        return process

    return open_process


def _advantages(frame: Frame, batch: Batch) -> Tensor:
    found = Returned(frame.content.get("returned"), frame.tensors).tensor(0)
    if found is None or found.shape != batch.rewards.shape:
        raise CandidateFailed("compute_advantages returned no advantages of the rewards' shape")
    return found


def _returned_loss(frame: Frame) -> Returned:
    said = frame.content
    return Returned(said.get("returned"), frame.tensors, said.get("metrics"), _texts(said.get("changed")))


def _outcome(frame: Frame, case: Case) -> Outcome:
    match frame.tensors:
        case (loss, gradient) if loss.numel() == 1 and gradient.shape == case.batch.log_prob.shape:
            return Outcome(loss.reshape(()), gradient)
    raise CandidateFailed("policy_loss returned no scalar loss with a gradient")


def _key(question: Question) -> Any:
    """A key that is equal for questions that are the same to the bit."""
    tensors = tuple(
        (tensor.dtype, tensor.shape, tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        for tensor in question.tensors
    )
    return question.what, json.dumps(question.content, sort_keys=True), tensors


def _labels(index: Any) -> tuple[list[Any], bool]:
    """The distinct identifiers in the order in which they first appear, and whether they came as an array."""
    return list(dict.fromkeys(index)), isinstance(index, np.ndarray)


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(str(value) for value in values) if isinstance(values, list) else ()
