"""The shipped task: arithmetic chains modulo 97.

    prompt     a op b op b ... =                   op is + (easy) or * (hard), b is 2, 3 or 5
    response   S 1. v 2. v ... # answer TAG end    one scratchpad step per operation

TAG is a random table over (a, first b), so that validity is a skill learned as slowly as the facts: a response is
valid if it ends in `# number TAG end` with the right tag and one `#`, and correct if the number is right, too. A task
without tags leaves TAG out.

S is the strategy, in tasks that have some: it says how to read the operands (`worlds.READINGS`), and a random table
over (a, first b) says which one the prompt needs, unless the prompt is an exception. Each step then begins with its
operand as read. Only the answer is verified, so every strategy that leads to it is right.

Held out are two fifths of the prompts of each suite, chosen at random: they occur neither in training nor in
demonstrations. Half of them are for selection, half for confirmation. Evaluation recombines single steps that
training has seen.

A response may hold tokens that do nothing, up to its cap: demonstrators that ramble make a policy that does.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor

from poise_git.pipeline.backends.testbed.settings import CHAINS, ArithmeticChainSettings, StrategySettings
from poise_git.pipeline.backends.testbed.task import BoolArray, IntArray, Problems, Split, Vocabulary
from poise_git.pipeline.backends.testbed.worlds import MODULUS, OPERANDS, PLUS, READINGS, TIMES, World, apply

# Tokens 0..96 are numbers.
PLUS_TOKEN, TIMES_TOKEN, EQUALS, PAD, ANSWER, END, FIRST_MARK = range(MODULUS, MODULUS + 7)
LONGEST = 4
FIRST_IDLE = FIRST_MARK + LONGEST
# Several tokens that do nothing: with one, the likeliest response would never end.
IDLE_KINDS = 8
FIRST_STRATEGY = FIRST_IDLE + IDLE_KINDS
SUITES = ("chain-2", "chain-3", "chain-4")
DEMONSTRATION_MIX = {"chain-1": 0.25, "chain-2": 0.30, "chain-3": 0.25, "chain-4": 0.20}
# Defects of form, and their shares among defective demonstrations.
DEFECTS = {"no marker": 0.3, "no tag": 0.3, "cut short": 0.2, "endless": 0.2}


@dataclass(frozen=True)
class Chains:
    """S prompts of one length L: first values (S,), operators and operands, both (S, L).

    `exception` (S,) is the strategy that a prompt needs against the rule, or -1.
    """

    first: IntArray
    operators: IntArray
    operands: IntArray
    exception: IntArray

    def __getitem__(self, rows: IntArray) -> Chains:
        return Chains(self.first[rows], self.operators[rows], self.operands[rows], self.exception[rows])


class ArithmeticChain:
    """The task in the world drawn with seed `world`."""

    def __init__(self, world: int, settings: ArithmeticChainSettings) -> None:
        self._world = World.draw(world, settings)
        self._settings = settings
        self._chains = {chain: _split(chain, world, settings.strategies) for chain in CHAINS}

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(
            size=FIRST_STRATEGY + (0 if self._settings.strategies is None else self._settings.strategies.count),
            pad=PAD,
            end=END,
            prompt_length=2 * LONGEST + 2,
            response_length=self._settings.response_cap,
        )

    @property
    def suites(self) -> tuple[str, ...]:
        return SUITES

    def training_problems(self, n: int, generator: np.random.Generator) -> Problems:
        names = _draw_names(self._settings.training_mix, n, generator)
        parts = [
            self._problems(_draw(chains[Split.TRAINING], int((names == name).sum()), generator))
            for name, chains in self._chains.items()
        ]
        shuffled = generator.permutation(n)
        together = Problems.concatenate(parts)
        return Problems(together.prompts[torch.from_numpy(shuffled)], together.solutions[shuffled])

    def suite_problems(self, suite: str, split: Split, n: int, generator: np.random.Generator) -> Problems:
        return self._problems(_draw(self._chains[suite][split], n, generator))

    def demonstrations(self, n: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        names = _draw_names(DEMONSTRATION_MIX, n, generator)
        prompts, responses = [], []
        for name, chains in self._chains.items():
            chosen = _draw(chains[Split.TRAINING], int((names == name).sum()), generator)
            prompts.append(self._problems(chosen).prompts)
            responses.append(self._demonstrate(chosen, generator))
        return torch.cat(prompts), torch.from_numpy(np.concatenate(responses))

    def verify(self, problems: Problems, responses: Tensor, lengths: Tensor) -> tuple[BoolArray, BoolArray]:
        tokens, length = responses.cpu().numpy(), lengths.cpu().numpy()
        row = np.arange(len(tokens))
        inside = np.arange(tokens.shape[1]) < length[:, None]
        one_marker = ((tokens == ANSWER) & inside).sum(1) == 1
        # `# answer TAG end`, or without the tag.
        parts = 3 if self._world.tags is None else 4
        marker, answer, tag, end = (tokens[row, np.maximum(length - back, 0)] for back in (parts, parts - 1, 2, 1))
        valid = (length >= parts) & one_marker & (marker == ANSWER) & (answer < MODULUS) & (end == END)
        if self._world.tags is not None:
            valid &= tag == problems.solutions[:, 1]
        return valid, valid & (answer == problems.solutions[:, 0])

    def _problems(self, chains: Chains) -> Problems:
        """Solutions are (answer, tag), with tag 0 in a task without tags."""
        choices, tags = self._world.choices, self._world.tags
        entry = (chains.first, chains.operands[:, 0])
        strategy = np.zeros_like(chains.first) if choices is None else choices.right[entry]
        strategy = np.where(chains.exception < 0, strategy, chains.exception)
        value = chains.first
        prompts = np.full((len(value), self.vocabulary.prompt_length), PAD)
        prompts[:, 0], prompts[:, -1] = chains.first, EQUALS
        for i in range(chains.operators.shape[1]):
            operator, operand = chains.operators[:, i], chains.operands[:, i]
            prompts[:, 2 * i + 1] = np.where(operator == TIMES, TIMES_TOKEN, PLUS_TOKEN)
            prompts[:, 2 * i + 2] = operand
            value = apply(operator, value, READINGS[strategy, operand])
        tag = np.zeros_like(value) if tags is None else tags.right[entry]
        return Problems(torch.from_numpy(prompts), np.stack([value, tag], 1))

    def _demonstrate(self, chains: Chains, generator: np.random.Generator) -> IntArray:
        choices, tags = self._world.choices, self._world.tags
        n, length = chains.operators.shape
        entry = (chains.first, chains.operands[:, 0])
        strategy = np.zeros(n, np.int64) if choices is None else choices.demonstrate(entry, generator)
        columns = [] if choices is None else [FIRST_STRATEGY + strategy]
        value = chains.first
        for i in range(length):
            operand = READINGS[strategy, chains.operands[:, i]]
            value = self._world.facts.demonstrate((chains.operators[:, i], value, operand), generator)
            columns += [np.full(n, FIRST_MARK + i) if choices is None else operand, value]
        marker = len(columns)
        columns += [np.full(n, ANSWER), value]
        if tags is not None:
            columns.append(tags.demonstrate(entry, generator))
        responses = np.stack([*columns, np.full(n, END)], 1)
        defects = _draw_names(self._defects(), n, generator)
        for defect, column in (("no marker", marker), ("no tag", marker + 2)):
            rows = defects == defect
            responses[rows, column:-1] = responses[rows, column + 1 :]
            responses[rows, -1] = PAD
        end = responses.shape[1] - 1
        cut = generator.integers(1, end, n)
        after = np.arange(end + 1) - cut[:, None]
        is_cut = (defects == "cut short")[:, None]
        responses = np.where(is_cut & (after == 0), END, np.where(is_cut & (after > 0), PAD, responses))
        idle = generator.geometric(1.0 / (1.0 + self._settings.idle_tokens), n) - 1
        first_step = marker - 2 * length
        rambling = _ramble(responses, np.where(is_cut[:, 0], 0, idle), first_step, length, generator)
        return self._fit(rambling, defects == "endless", generator)

    def _defects(self) -> dict[str, float]:
        """The share of each defect among demonstrations, and of those without one."""
        possible = {name: share for name, share in DEFECTS.items() if name != "no tag" or self._world.tags is not None}
        total, defective = sum(possible.values()), self._settings.defects
        return {"none": 1.0 - defective} | {name: defective * share / total for name, share in possible.items()}

    def _fit(self, responses: IntArray, endless: BoolArray, generator: np.random.Generator) -> IntArray:
        """The responses at the cap's width: cut off there, `endless` ones filled up to it."""
        cap = self._settings.response_cap
        fitted = np.full((len(responses), max(cap, responses.shape[1])), PAD)
        fitted[:, : responses.shape[1]] = responses
        filled = endless[:, None] & ((fitted == END) | (fitted == PAD))
        return np.where(filled, _idle_tokens(fitted.shape, generator), fitted)[:, :cap]


def _ramble(
    responses: IntArray, idle: IntArray, first_step: int, steps: int, generator: np.random.Generator
) -> IntArray:
    """`responses` (N, T) of `steps` steps, the first at position `first_step`, with `idle` (N,) more tokens each, every
    one after some step."""
    n, most = len(responses), int(idle.max(initial=0))
    extra = np.where(np.arange(most) < idle[:, None], _idle_tokens((n, most), generator), PAD)
    places = first_step + 2.0 * generator.integers(1, steps + 1, (n, most)) - 0.5
    tokens = np.concatenate([responses, extra], 1)
    places = np.concatenate([np.broadcast_to(np.arange(responses.shape[1]), responses.shape), places], 1)
    places[tokens == PAD] = np.inf
    return np.take_along_axis(tokens, places.argsort(1, kind="stable"), 1)


def _idle_tokens(shape: tuple[int, ...], generator: np.random.Generator) -> IntArray:
    return generator.integers(FIRST_IDLE, FIRST_IDLE + IDLE_KINDS, shape)


def _split(chain: str, world: int, strategies: StrategySettings | None) -> dict[Split, Chains]:
    """All prompts of `chain`, divided at random. A single step is no chain of known ones: it is for training only."""
    length, hard = CHAINS[chain]
    sequences = [
        (tuple(TIMES if i in places else PLUS for i in range(length)), operands)
        for places in combinations(range(length), hard)
        for operands in product(OPERANDS, repeat=length)
    ]
    table = np.array(sequences, dtype=np.int64).reshape(len(sequences), 2, length)
    # 0 is left out: it stays 0 under every product.
    first = np.arange(1, MODULUS)
    which = np.random.default_rng([world, 6, length]).permutation(len(sequences) * len(first))
    exception = np.full(len(which), -1)
    if strategies is not None:
        generator = np.random.default_rng([world, 7, length])
        own = generator.integers(0, strategies.count, len(which))
        exception = np.where(generator.random(len(which)) < strategies.exceptions, own, exception)
    chains = Chains(first[which % len(first)], table[which // len(first), 0], table[which // len(first), 1], exception)
    fifth = len(which) // 5 if chain in SUITES else 0
    rows = np.arange(len(which))
    return {
        Split.SELECTION: chains[rows[:fifth]],
        Split.CONFIRMATION: chains[rows[fifth : 2 * fifth]],
        Split.TRAINING: chains[rows[2 * fifth :]],
    }


def _draw(chains: Chains, n: int, generator: np.random.Generator) -> Chains:
    return chains[generator.integers(0, len(chains.first), n)]


def _draw_names(shares: dict[str, float], n: int, generator: np.random.Generator) -> np.ndarray:
    """`n` names drawn with probabilities proportional to their shares."""
    weights = np.array(list(shares.values()))
    return generator.choice(list(shares), n, p=weights / weights.sum())
