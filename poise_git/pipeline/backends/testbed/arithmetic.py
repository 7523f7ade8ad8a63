"""The shipped task: arithmetic chains modulo 97.

    prompt     a op b op b ... =                 op is + (easy) or * (hard), b is 2, 3 or 5
    response   1. v 2. v ... # answer TAG end    one scratchpad step per operation

TAG is a random table over (a, first b), so that validity is a skill learned as slowly as the facts: a response is
valid if it ends in `# number TAG end` with the right tag and one `#`, and correct if the number is right, too.

Held out are operator/operand *sequences*: a quarter of each suite's, chosen by hash, occurs neither in training nor
in demonstrations, whatever the first value. Evaluation recombines single steps that training has seen.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor

from poise_git.pipeline.backends.testbed.settings import CHAINS
from poise_git.pipeline.backends.testbed.task import BoolArray, IntArray, Problems, Vocabulary
from poise_git.pipeline.backends.testbed.worlds import MODULUS, OPERANDS, PLUS, TIMES, World, apply

# Tokens 0..96 are numbers.
PLUS_TOKEN, TIMES_TOKEN, EQUALS, PAD, ANSWER, END, WAIT, FIRST_MARK = range(MODULUS, MODULUS + 8)
LONGEST = 4
VOCABULARY = Vocabulary(
    size=FIRST_MARK + LONGEST, pad=PAD, end=END, prompt_length=2 * LONGEST + 2, response_length=2 * LONGEST + 6
)
# A chain of one step has no sequence to recombine, so it is for training only.
SUITES = ("chain-2", "chain-3", "chain-4")
DEMONSTRATION_MIX = {"chain-1": 0.25, "chain-2": 0.30, "chain-3": 0.25, "chain-4": 0.20}
# Shares of demonstrations with a defect of form.
DEFECTS = {"none": 0.80, "no marker": 0.06, "no tag": 0.06, "cut short": 0.04, "endless": 0.04}


@dataclass(frozen=True)
class Steps:
    """S operator/operand sequences of one length L: both (S, L)."""

    operators: IntArray
    operands: IntArray


class ArithmeticChain:
    """The task in the world drawn with seed `world`; `training_mix` are the shares of each chain in training."""

    def __init__(self, world: int, training_mix: dict[str, float]) -> None:
        self._world = World.draw(world)
        self._mix = training_mix
        self._training, self._held_out = {}, {}
        for chain in CHAINS:
            self._training[chain], self._held_out[chain] = _split(chain, world)

    @property
    def vocabulary(self) -> Vocabulary:
        return VOCABULARY

    @property
    def suites(self) -> tuple[str, ...]:
        return SUITES

    def training_problems(self, n: int, generator: np.random.Generator) -> Problems:
        chains = _draw_names(self._mix, n, generator)
        parts = [self._problems(self._training[chain], int((chains == chain).sum()), generator)[0] for chain in CHAINS]
        shuffled = generator.permutation(n)
        together = Problems.concatenate(parts)
        return Problems(together.prompts[torch.from_numpy(shuffled)], together.solutions[shuffled])

    def held_out_problems(self, suite: str, n: int, generator: np.random.Generator) -> Problems:
        return self._problems(self._held_out[suite], n, generator)[0]

    def demonstrations(self, n: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        chains = _draw_names(DEMONSTRATION_MIX, n, generator)
        prompts, responses = [], []
        for chain, steps in self._training.items():
            problems, chosen = self._problems(steps, int((chains == chain).sum()), generator)
            prompts.append(problems.prompts)
            responses.append(self._demonstrate(problems, chosen, generator))
        return torch.cat(prompts), torch.from_numpy(np.concatenate(responses))

    def verify(self, problems: Problems, responses: Tensor, lengths: Tensor) -> tuple[BoolArray, BoolArray]:
        tokens, length = responses.numpy(), lengths.numpy()
        row = np.arange(len(tokens))
        inside = np.arange(tokens.shape[1]) < length[:, None]
        one_marker = ((tokens == ANSWER) & inside).sum(1) == 1
        marker, answer, tag, end = (tokens[row, np.maximum(length - back, 0)] for back in (4, 3, 2, 1))
        well_formed = (length >= 4) & one_marker & (marker == ANSWER) & (answer < MODULUS) & (end == END)
        valid = well_formed & (tag == problems.solutions[:, 1])
        return valid, valid & (answer == problems.solutions[:, 0])

    def _problems(self, steps: Steps, n: int, generator: np.random.Generator) -> tuple[Problems, Steps]:
        """`n` prompts over `steps`, and the sequence of each. Solutions are (answer, tag)."""
        which = generator.integers(0, len(steps.operators), n)
        chosen = Steps(steps.operators[which], steps.operands[which])
        # 0 is left out: it stays 0 under every product.
        first = value = generator.integers(1, MODULUS, n)
        prompts = np.full((n, VOCABULARY.prompt_length), PAD)
        prompts[:, 0], prompts[:, -1] = first, EQUALS
        for i in range(chosen.operators.shape[1]):
            operator, operand = chosen.operators[:, i], chosen.operands[:, i]
            prompts[:, 2 * i + 1] = np.where(operator == TIMES, TIMES_TOKEN, PLUS_TOKEN)
            prompts[:, 2 * i + 2] = operand
            value = apply(operator, value, operand)
        tags = self._world.tags.right[first, chosen.operands[:, 0]]
        return Problems(torch.from_numpy(prompts), np.stack([value, tags], 1)), chosen

    def _demonstrate(self, problems: Problems, steps: Steps, generator: np.random.Generator) -> IntArray:
        n, length = steps.operators.shape
        value = first = problems.prompts[:, 0].numpy()
        responses = np.full((n, VOCABULARY.response_length), PAD)
        for i in range(length):
            value = self._world.facts.demonstrate((steps.operators[:, i], value, steps.operands[:, i]), generator)
            responses[:, 2 * i], responses[:, 2 * i + 1] = FIRST_MARK + i, value
        tag = self._world.tags.demonstrate((first, steps.operands[:, 0]), generator)
        marker = 2 * length
        for column, token in enumerate((ANSWER, value, tag, END)):
            responses[:, marker + column] = token
        defects = _draw_names(DEFECTS, n, generator)
        for defect, column in (("no marker", marker), ("no tag", marker + 2)):
            rows = defects == defect
            responses[rows, column:-1] = responses[rows, column + 1 :]
        cut = generator.integers(1, marker + 3, n)
        after = np.arange(responses.shape[1]) - cut[:, None]
        is_cut = (defects == "cut short")[:, None]
        responses = np.where(is_cut & (after == 0), END, np.where(is_cut & (after > 0), PAD, responses))
        responses[defects == "endless", marker + 3 :] = WAIT
        return responses


def _split(chain: str, world: int) -> tuple[Steps, Steps]:
    """The sequences of `chain` for training and those held out: the quarter with the smallest hashes."""
    length, hard = CHAINS[chain]
    sequences = [
        (tuple(TIMES if i in places else PLUS for i in range(length)), operands)
        for places in combinations(range(length), hard)
        for operands in product(OPERANDS, repeat=length)
    ]
    sequences.sort(key=lambda sequence: hashlib.sha256(f"{world} {sequence}".encode()).digest())
    quarter = round(len(sequences) / 4) if chain in SUITES else 0

    def steps(part: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> Steps:
        table = np.array(part, dtype=np.int64).reshape(len(part), 2, length)
        return Steps(table[:, 0], table[:, 1])

    return steps(sequences[quarter:]), steps(sequences[:quarter])


def _draw_names(shares: dict[str, float], n: int, generator: np.random.Generator) -> np.ndarray:
    """`n` names drawn with probabilities proportional to their shares."""
    weights = np.array(list(shares.values()))
    return generator.choice(list(shares), n, p=weights / weights.sum())
