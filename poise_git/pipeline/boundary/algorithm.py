"""A candidate as an `Algorithm`; the trusted side validates every answer here."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from poise_git.pipeline.boundary.calls import kind
from poise_git.pipeline.boundary.failures import CandidateFailed, one_line
from poise_git.pipeline.boundary.frames import Frame, bytes_of, plain
from poise_git.pipeline.boundary.interface import BatchSizes, Gradient, groups
from poise_git.pipeline.boundary.process import Answering

# The share of calls that a second process answers as well. That process gets only these calls.
WITNESSED = 1 / 32
# Earlier calls that are kept for the second process.
_KEPT = 4
_SEED_BYTES = 6


@dataclass(frozen=True)
class _Answered:
    """A question, and the answer of the candidate's process."""

    what: str
    content: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    answer: Frame


class GuardedAlgorithm:
    """See `poise_git.pipeline.boundary.interface.Algorithm`.

    A second process also answers some calls, at the same time or later: the second, the eighth and so on of each entry
    point, and from the second call on a random share that a candidate cannot predict. Its answer must be the same to
    the bit, because an algorithm must depend neither on earlier calls nor on the time of day.
    """

    def __init__(self, process: Answering, witness: Answering | None, seed: int) -> None:
        self._process, self._witness = process, witness
        self._seed = seed
        self._lots = random.SystemRandom()
        self._calls: Counter[str] = Counter()
        self._kept: list[_Answered] = []

    def advantages(
        self, rewards: Tensor, mask: Tensor, index: Sequence[Any], sizes: BatchSizes | None = None
    ) -> Tensor:
        frame = self._ask("compute_advantages", {"sizes": _plain(sizes)}, (rewards, mask, groups(index)))
        match frame.content.get("returned"):
            case [{"tensor": 0}, dict()] if frame.tensors:
                advantages = frame.tensors[0]
            case returned:
                found = returned if isinstance(returned, str) else "something else"
                raise CandidateFailed(
                    one_line(f"compute_advantages must return (advantages, returns), it returned {found}")
                )
        if advantages.shape != rewards.shape or not advantages.is_floating_point():
            found = f"{tuple(advantages.shape)} and type {advantages.dtype}"
            raise CandidateFailed(
                f"compute_advantages returned advantages of shape {found}, not {tuple(rewards.shape)}"
            )
        # A number that is finite in another type may not be finite in this one.
        advantages = advantages.to(rewards.device, rewards.dtype)
        _require_finite("advantage", advantages)
        return advantages

    def gradient(
        self,
        old_log_probs: Tensor,
        log_probs: Tensor,
        advantages: Tensor,
        mask: Tensor,
        aggregation: str,
        sizes: BatchSizes | None = None,
        rollout_is_weights: Tensor | None = None,
    ) -> Gradient:
        tensors = (old_log_probs, log_probs, advantages, mask)
        weights = () if rollout_is_weights is None else (rollout_is_weights,)
        frame = self._ask("policy_loss", {"aggregation": aggregation, "sizes": _plain(sizes)}, (*tensors, *weights))
        if not frame.tensors or frame.tensors[0].numel() != 1:
            raise CandidateFailed(f"policy_loss must return a scalar loss, it returned {_loss_in_words(frame)}")
        if len(frame.tensors) != 2:
            raise CandidateFailed("policy_loss returned a loss that does not depend on log_prob")
        loss, gradient = frame.tensors
        if gradient.shape != log_probs.shape or gradient.dtype != log_probs.dtype:
            raise CandidateFailed("policy_loss returned a loss or a gradient of the wrong shape or type")
        # verl adds the loss to numbers of float32, in which a larger one is infinite.
        _require_finite("loss", loss.float())
        _require_finite("gradient", gradient)
        return Gradient(float(loss), gradient.to(log_probs.device) * mask)

    def close(self) -> None:
        for process in (self._process, self._witness):
            if process is not None:
                process.close()

    def _ask(self, what: str, content: dict[str, Any], tensors: Sequence[Tensor]) -> Frame:
        tensors = tuple(map(plain, tensors))
        content = {**content, "seed": _seed_of(self._seed, what, tensors)}
        frame = self._process.ask(what, content, tensors)
        self._calls[what] += 1
        # The first call is not compared, so the second process begins without an earlier call of this entry point.
        if self._witness is not None and self._calls[what] > 1:
            early = _is_odd_power_of_two(self._calls[what])
            if early or self._lots.random() < WITNESSED:
                now = _Answered(what, content, tuple(tensor.clone() for tensor in tensors), frame)
                self._compare(self._witness, now if early else self._lots.choice([*self._kept, now]))
                self._keep(now)
        return frame

    def _compare(self, witness: Answering, given: _Answered) -> None:
        other = witness.ask(given.what, given.content, given.tensors)
        answered = given.answer.tensors
        if len(answered) != len(other.tensors) or not all(map(_same, answered, other.tensors)):
            raise CandidateFailed(
                f"{given.what} gives other numbers in another process; an algorithm must not use memory between calls, "
                "its own random numbers or the time of day"
            )

    def _keep(self, given: _Answered) -> None:
        if len(self._kept) < _KEPT:
            self._kept.append(given)
        else:
            self._kept[self._lots.randrange(_KEPT)] = given


def _seed_of(seed: int, what: str, tensors: Sequence[Tensor]) -> int:
    """The seed for the candidate's random numbers in one call, from the run's seed and the call's tensors.

    Consecutive seeds would tell the candidate the number of earlier calls.
    """
    digest = hashlib.blake2b(f"{seed} {what}".encode(), digest_size=_SEED_BYTES)
    for tensor in tensors:
        digest.update(bytes_of(tensor))
    return int.from_bytes(digest.digest(), "big")


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _is_odd_power_of_two(number: int) -> bool:
    """Whether the number is 2, 8, 32 and so on."""
    return number.bit_count() == 1 and number.bit_length() % 2 == 0


def _loss_in_words(frame: Frame) -> str:
    if frame.tensors:
        return kind(frame.tensors[0])
    match frame.content.get("returned"):
        case [{"value": str(words)}]:
            return one_line(words)
    return "something else"


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal to the bit; not-a-number equals itself here."""
    return _alike(one, other) and np.array_equal(bytes_of(plain(one)), bytes_of(plain(other)))


def _plain(sizes: BatchSizes | None) -> dict[str, float] | None:
    return None if sizes is None else dict(sizes)


def _require_finite(name: str, values: Tensor) -> None:
    # The sum is finite only if every element is, and it costs a tenth of a test of every element.
    if math.isfinite(values.sum().item()):
        return
    if bool(values.isnan().any()):
        raise CandidateFailed(f"{name} is NaN")
    if bool(values.isinf().any()):
        raise CandidateFailed(f"{name} is infinite")
