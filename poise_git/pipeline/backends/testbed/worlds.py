"""The tables of a world of the arithmetic task: what its demonstrators know, its tags, and its strategies."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from poise_git.pipeline.backends.testbed.settings import ArithmeticChainSettings, StrategySettings
from poise_git.pipeline.backends.testbed.task import IntArray

MODULUS = 97
OPERANDS = (2, 3, 5)
PLUS, TIMES = 0, 1

# How alike the entries of a table are: a + b of the Beta(a, b) from which the probability is drawn that a
# demonstration states an entry correctly.
CONCENTRATION = {"sums": 10.0, "products": 4.1, "tags": 3.0}
# How different demonstrators' preferences among strategies are from prompt to prompt: a deviation, in nats.
STRATEGY_NOISE = 1.0
# A strategy reads every operand as another one: strategy k as `READINGS[k]` says, which leaves 0 and the others alone.
READINGS = np.array(
    [
        [order[OPERANDS.index(operand)] if operand in OPERANDS else operand for operand in range(max(OPERANDS) + 1)]
        for order in permutations(OPERANDS)
    ]
)


def apply(operator: IntArray, value: IntArray, operand: IntArray) -> IntArray:
    """`value` + or * `operand` modulo 97, elementwise."""
    return np.where(operator == TIMES, value * operand, value + operand) % MODULUS


@dataclass(frozen=True)
class Table:
    """Entries to memorize: their right values, favorite errors, and how often each is demonstrated right."""

    right: IntArray
    error: IntArray
    knowledge: NDArray[np.float64]
    favorite_errors: float

    @classmethod
    def draw(
        cls, right: IntArray, knowledge: NDArray[np.float64], favorite_errors: float, generator: np.random.Generator
    ) -> Table:
        error = (right + generator.integers(1, MODULUS, right.shape)) % MODULUS
        return cls(right, error, knowledge.clip(0.03, 0.97), favorite_errors)

    def demonstrate(self, entries: tuple[IntArray, ...], generator: np.random.Generator) -> IntArray:
        """What demonstrations state for `entries` (indices): right, the favorite error, or anything."""
        n = len(entries[0])
        wrong = np.where(
            generator.random(n) < self.favorite_errors, self.error[entries], generator.integers(0, MODULUS, n)
        )
        return np.where(generator.random(n) < self.knowledge[entries], self.right[entries], wrong)


@dataclass(frozen=True)
class Choices:
    """Which strategy each entry (first value, first operand) needs, and the shares with which demonstrators choose.

    Attributes:
        right: (97, 6) the strategy that an entry needs.
        shares: (97, 6, K) probabilities.
    """

    right: IntArray
    shares: NDArray[np.float64]

    @classmethod
    def draw(cls, settings: StrategySettings, generator: np.random.Generator) -> Choices:
        shape = (MODULUS, max(OPERANDS) + 1)
        right = generator.integers(0, settings.count, shape)
        logits = -settings.skew * np.log(np.arange(1, settings.count + 1))
        logits = logits + STRATEGY_NOISE * generator.standard_normal((*shape, settings.count))
        logits = logits + settings.insight * (np.arange(settings.count) == right[..., None])
        weights = np.exp(logits)
        return cls(right, weights / weights.sum(-1, keepdims=True))

    def demonstrate(self, entries: tuple[IntArray, ...], generator: np.random.Generator) -> IntArray:
        cumulative = self.shares[entries].cumsum(-1)
        chosen: IntArray = (generator.random((len(cumulative), 1)) > cumulative[:, :-1]).sum(-1)
        return chosen


@dataclass(frozen=True)
class World:
    """The tables of a world.

    Attributes:
        facts: by (operator, value, operand): an arithmetic step.
        tags: by (first value, first operand): a prompt's tag; None if responses have none.
        choices: None if there are no strategies.
    """

    facts: Table
    tags: Table | None
    choices: Choices | None

    @classmethod
    def draw(cls, seed: int, settings: ArithmeticChainSettings) -> World:
        """Tables drawn with `seed`."""
        generator = np.random.default_rng([seed, 1])
        shape = (MODULUS, max(OPERANDS) + 1)
        known, favorite_errors = settings.known, settings.favorite_errors

        def knowledge(mean: float, concentration: float) -> NDArray[np.float64]:
            return generator.beta(mean * concentration, (1.0 - mean) * concentration, shape)

        operator, value, operand = np.indices((2, *shape))
        facts = Table.draw(
            apply(operator, value, operand),
            np.stack(
                [
                    knowledge(known.sums, CONCENTRATION["sums"]),
                    knowledge(known.products, CONCENTRATION["products"]),
                ]
            ),
            favorite_errors,
            generator,
        )
        tags = None
        if known.tags is not None:
            right = generator.integers(0, MODULUS, shape)
            tags = Table.draw(right, knowledge(known.tags, CONCENTRATION["tags"]), favorite_errors, generator)
        choices = None if settings.strategies is None else Choices.draw(settings.strategies, generator)
        return cls(facts, tags, choices)
