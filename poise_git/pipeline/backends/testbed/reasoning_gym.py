"""Any data set of the `reasoning-gym` package as a task, checked by the data set's own verifier.

    prompt     the question, one token a character (what all questions begin or end with is left out), then `=`
    response   # answer end

A response is valid if it is `#`, at least one character, and the end token; it is correct if the data set's
`score_answer` gives full marks. Held out is a quarter of all questions, chosen by the hash of their text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from os.path import commonprefix
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poise_git.errors import UsageError
from poise_git.pipeline.backends.testbed.settings import ReasoningGymSettings
from poise_git.pipeline.backends.testbed.task import BoolArray, Problems, Split, Vocabulary

PAD, END, MARKER, EQUALS, UNKNOWN, FIRST_CHARACTER = range(6)
# How many items tell the alphabet and the lengths. Longer questions are skipped, longer answers are out of reach.
SURVEYED = 512
# Items drawn at a time, and in vain before giving up.
BATCH = 256
PATIENCE = 20
MISSING = "the task reasoning-gym needs a package: pip install 'poise-git[tasks]'"


class ReasoningGym:
    """The data set named by `settings`; worlds differ in nothing but the base policy."""

    def __init__(self, world: int, settings: ReasoningGymSettings) -> None:
        self._settings = settings
        survey = self._dataset(seed=world, size=SURVEYED)
        items = [survey[i] for i in range(SURVEYED)]
        self._score = survey.score_answer
        questions = [str(item["question"]) for item in items]
        answers = [str(item["answer"]) for item in items]
        self._prefix = commonprefix(questions)  # noqa: RUF071 - of characters, as meant
        bodies = [question[len(self._prefix) :] for question in questions]
        self._suffix = commonprefix([body[::-1] for body in bodies])[::-1]  # noqa: RUF071
        alphabet = sorted(set("".join(self._body(question) for question in questions) + "".join(answers)))
        self._characters = dict(zip(alphabet, range(FIRST_CHARACTER, FIRST_CHARACTER + len(alphabet)), strict=True))
        self._letters = {token: character for character, token in self._characters.items()}
        self._vocabulary = Vocabulary(
            size=FIRST_CHARACTER + len(alphabet),
            pad=PAD,
            end=END,
            prompt_length=max(len(self._body(question)) for question in questions) + 1,
            response_length=max(map(len, answers)) + 3,
        )

    @property
    def vocabulary(self) -> Vocabulary:
        return self._vocabulary

    @property
    def suites(self) -> tuple[str, ...]:
        return (self._settings.dataset,)

    def training_problems(self, n: int, generator: np.random.Generator) -> Problems:
        return self._problems(n, generator, Split.TRAINING)

    def suite_problems(self, suite: str, split: Split, n: int, generator: np.random.Generator) -> Problems:
        return self._problems(n, generator, split)

    def demonstrations(self, n: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        problems = self.training_problems(n, generator)
        right = generator.random(n) < self._settings.demonstration_accuracy
        well_formed = generator.random(n) < self._settings.demonstration_validity
        other = generator.permutation(n)
        responses = np.full((n, self._vocabulary.response_length), PAD)
        for i in range(n):
            answer = str(problems.solutions[i if right[i] else other[i]]["answer"])
            tokens = [*([MARKER] if well_formed[i] else []), *self._encode(answer), END]
            responses[i, : len(tokens)] = tokens
        return problems.prompts, torch.from_numpy(responses)

    def verify(self, problems: Problems, responses: Tensor, lengths: Tensor) -> tuple[BoolArray, BoolArray]:
        valid = np.zeros(len(problems), dtype=np.bool_)
        correct = np.zeros(len(problems), dtype=np.bool_)
        for i, (row, length) in enumerate(zip(responses.tolist(), lengths.tolist(), strict=True)):
            marker, *answer, end = row[:length] if length > 1 else (PAD, PAD)
            valid[i] = marker == MARKER and end == END and bool(answer) and all(t in self._letters for t in answer)
            if valid[i]:
                correct[i] = self._full_marks("".join(self._letters[t] for t in answer), problems.solutions[i])
        return valid, correct

    def _full_marks(self, answer: str, item: dict[str, Any]) -> bool:
        try:
            return float(self._score(answer=answer, entry=item)) >= 1.0
        except (ValueError, TypeError, ArithmeticError, LookupError, SyntaxError):
            # Some verifiers parse the answer and fail on one that makes no sense.
            return False

    def _problems(self, n: int, generator: np.random.Generator, split: Split) -> Problems:
        prompts = np.full((n, self._vocabulary.prompt_length), PAD)
        prompts[:, -1] = EQUALS
        solutions = np.empty(n, dtype=object)
        source = self._items(generator, split)
        for i in range(n):
            item = next(source)
            tokens = self._encode(self._body(str(item["question"])))
            prompts[i, : len(tokens)] = tokens
            solutions[i] = item
        return Problems(torch.from_numpy(prompts), solutions)

    def _items(self, generator: np.random.Generator, split: Split) -> Iterator[dict[str, Any]]:
        """Items on one side of the split that fit into a prompt, without end."""
        empty = 0
        while empty < PATIENCE:
            dataset = self._dataset(seed=int(generator.integers(2**31)), size=BATCH)
            found = [
                item
                for item in (dataset[i] for i in range(BATCH))
                if split_of(str(item["question"])) is split
                and len(self._body(str(item["question"]))) < self._vocabulary.prompt_length
                and len(str(item["answer"])) + 2 <= self._vocabulary.response_length
            ]
            empty = 0 if found else empty + 1
            yield from found
        raise UsageError(f"reasoning-gym data set {self._settings.dataset} has no {split} questions with this config")

    def _dataset(self, seed: int, size: int) -> Any:
        try:
            import reasoning_gym
        except ImportError as error:
            raise UsageError(MISSING) from error
        try:
            return reasoning_gym.create_dataset(self._settings.dataset, seed=seed, size=size, **self._settings.config)
        except Exception as error:  # each data set checks its own config, with asserts and errors of any type
            reason = " ".join(str(error).split())
            raise UsageError(f"reasoning-gym data set {self._settings.dataset}: {reason}") from error

    def _body(self, question: str) -> str:
        """The question without what all questions begin and end with."""
        return question.removeprefix(self._prefix).removesuffix(self._suffix)

    def _encode(self, text: str) -> list[int]:
        return [self._characters.get(character, UNKNOWN) for character in text]


def split_of(question: str) -> Split:
    """Three quarters of all questions are to learn from, an eighth each to choose by and to confirm with."""
    eighth = hashlib.sha256(question.encode()).digest()[0] % 8
    return {0: Split.SELECTION, 1: Split.CONFIRMATION}.get(eighth, Split.TRAINING)
