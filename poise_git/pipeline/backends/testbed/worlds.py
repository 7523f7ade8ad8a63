"""The tables of a world of the arithmetic task: what its demonstrators know, and its tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poise_git.pipeline.backends.testbed.task import IntArray

MODULUS = 97
OPERANDS = (2, 3, 5)
PLUS, TIMES = 0, 1

# How alike the entries of a table are: a + b of the Beta(a, b) from which the probability is drawn that a
# demonstration states an entry correctly.
CONCENTRATION = {"sums": 10.0, "products": 4.1, "tags": 3.0}
# A wrong demonstration states the entry's own favourite error this often, else any number.
FAVOURITE_ERROR_RATE = 0.65


def apply(operator: IntArray, value: IntArray, operand: IntArray) -> IntArray:
    """`value` + or * `operand` modulo 97, elementwise."""
    return np.where(operator == TIMES, value * operand, value + operand) % MODULUS


@dataclass(frozen=True)
class Table:
    """Entries to memorise: their right values, favourite errors, and how often each is demonstrated right."""

    right: IntArray
    error: IntArray
    knowledge: NDArray[np.float64]

    @classmethod
    def draw(cls, right: IntArray, knowledge: NDArray[np.float64], generator: np.random.Generator) -> Table:
        error = (right + generator.integers(1, MODULUS, right.shape)) % MODULUS
        return cls(right, error, knowledge.clip(0.03, 0.97))

    def demonstrate(self, entries: tuple[IntArray, ...], generator: np.random.Generator) -> IntArray:
        """What demonstrations state for `entries` (indices into the table): right, the favourite error, or anything."""
        n = len(entries[0])
        wrong = np.where(
            generator.random(n) < FAVOURITE_ERROR_RATE, self.error[entries], generator.integers(0, MODULUS, n)
        )
        return np.where(generator.random(n) < self.knowledge[entries], self.right[entries], wrong)


@dataclass(frozen=True)
class World:
    """`facts[operator, value, operand]` is an arithmetic step, `tags[first value, first operand]` a prompt's tag."""

    facts: Table
    tags: Table

    @classmethod
    def draw(cls, seed: int, known: Mapping[str, float]) -> World:
        """Tables drawn with `seed`; `known` gives the mean probability that an entry is demonstrated correctly."""
        generator = np.random.default_rng([seed, 1])
        shape = (MODULUS, max(OPERANDS) + 1)

        def knowledge(of: str) -> NDArray[np.float64]:
            return generator.beta(known[of] * CONCENTRATION[of], (1.0 - known[of]) * CONCENTRATION[of], shape)

        operator, value, operand = np.indices((2, *shape))
        facts = Table.draw(
            apply(operator, value, operand), np.stack([knowledge("sums"), knowledge("products")]), generator
        )
        tags = generator.integers(0, MODULUS, shape)
        return cls(facts, Table.draw(tags, knowledge("tags"), generator))
