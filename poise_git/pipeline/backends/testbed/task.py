"""The interface of a task of the testbed: prompts, imperfect demonstrations, and a verifier."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Problems:
    """N prompts with the data that the verifier needs.

    Attributes:
        prompts: (N, P) int64 tokens.
        solutions: (N, ...) one entry per prompt; only the task that made them reads them.
    """

    prompts: Tensor
    solutions: NDArray[Any]

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, rows: slice) -> Problems:
        return Problems(self.prompts[rows], self.solutions[rows])

    def repeat(self, times: int) -> Problems:
        """Every problem `times` times in a row: (N * times, ...)."""
        return Problems(self.prompts.repeat_interleave(times, 0), np.repeat(self.solutions, times, axis=0))

    @staticmethod
    def concatenate(parts: list[Problems]) -> Problems:
        prompts = torch.cat([part.prompts for part in parts])
        return Problems(prompts, np.concatenate([part.solutions for part in parts]))


@dataclass(frozen=True)
class Vocabulary:
    """Sizes and special tokens that the policy needs.

    `end` ends a response, and `pad` fills the rest. Prompts have `prompt_length` tokens, padding included; responses
    have at most `response_length`, the end token included.
    """

    size: int
    pad: int
    end: int
    prompt_length: int
    response_length: int


class Split(StrEnum):
    """Three sides of a task without a common prompt: for training, for selection, for confirmation."""

    TRAINING = "training"
    SELECTION = "selection"
    CONFIRMATION = "confirmation"


class Task(Interface):
    """One world of a task."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def suites(self) -> tuple[str, ...]:
        """The names of the suites."""
        ...

    def training_problems(self, n: int, generator: np.random.Generator) -> Problems: ...

    def suite_problems(self, suite: str, split: Split, n: int, generator: np.random.Generator) -> Problems:
        """Problems of a suite on one side of the split; those for training are among the demonstrated ones."""
        ...

    def demonstrations(self, n: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Imperfect worked answers to training prompts: (n, P) prompts and (n, R) responses, padded."""
        ...

    def verify(self, problems: Problems, responses: Tensor, lengths: Tensor) -> tuple[BoolArray, BoolArray]:
        """Which of the responses (N, R), of `lengths` (N,) tokens, are valid and which are correct: both (N,).

        Correct implies valid.
        """
        ...
