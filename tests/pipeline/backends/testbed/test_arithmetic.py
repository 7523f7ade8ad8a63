from __future__ import annotations

import numpy as np
import pytest
import torch

from poise_git.pipeline.backends.testbed.arithmetic import (
    ANSWER,
    DEFECTS,
    END,
    EQUALS,
    PAD,
    PLUS_TOKEN,
    SUITES,
    TIMES_TOKEN,
    ArithmeticChain,
)
from poise_git.pipeline.backends.testbed.settings import CHAINS

MIX = {"chain-1": 0.4, "chain-2": 0.4, "chain-3": 0.2}


def steps_of(prompts: torch.Tensor) -> set[tuple[int, ...]]:
    """The operator/operand sequences of prompts, without their first values."""
    return {tuple(token for token in row[1:-1] if token != PAD) for row in prompts.tolist()}


def solve(prompt: list[int]) -> int:
    value, rest = prompt[0], [token for token in prompt[1:-1] if token != PAD]
    for operator, operand in zip(rest[::2], rest[1::2], strict=True):
        value = (value * operand if operator == TIMES_TOKEN else value + operand) % 97
    return value


def proper_response(answer: int, tag: int) -> list[int]:
    return [ANSWER, answer, tag, END]


@pytest.fixture(params=[7, 8])
def chain(request: pytest.FixtureRequest) -> ArithmeticChain:
    return ArithmeticChain(request.param, MIX)


def test_held_out_sequences_occur_neither_in_training_nor_in_demonstrations(
    chain: ArithmeticChain, generator: np.random.Generator
) -> None:
    held_out = set().union(*(steps_of(chain.held_out_problems(suite, 2000, generator).prompts) for suite in SUITES))
    seen = steps_of(chain.training_problems(8000, generator).prompts)
    demonstrated = steps_of(chain.demonstrations(8000, generator)[0])
    assert {len(steps) // 2 for steps in demonstrated} == {1, 2, 3, 4}
    assert len(held_out) > 50
    assert not held_out & seen
    assert not held_out & demonstrated


def test_every_single_step_of_a_held_out_prompt_is_seen_in_training(
    chain: ArithmeticChain, generator: np.random.Generator
) -> None:
    def facts(prompts: torch.Tensor) -> set[tuple[int, int]]:
        return {pair for steps in steps_of(prompts) for pair in zip(steps[::2], steps[1::2], strict=True)}

    seen = facts(chain.training_problems(4000, generator).prompts)
    for suite in SUITES:
        assert facts(chain.held_out_problems(suite, 500, generator).prompts) <= seen


def test_prompts_have_their_suites_length_and_hard_steps_and_the_right_solution(
    chain: ArithmeticChain, generator: np.random.Generator
) -> None:
    for suite in SUITES:
        problems = chain.held_out_problems(suite, 200, generator)
        for prompt, (answer, _) in zip(problems.prompts.tolist(), problems.solutions, strict=True):
            operators = [token for token in prompt if token in (PLUS_TOKEN, TIMES_TOKEN)]
            assert (len(operators), operators.count(TIMES_TOKEN)) == CHAINS[suite]
            assert prompt[-1] == EQUALS
            assert solve(prompt) == answer


def test_training_mix_is_kept(chain: ArithmeticChain, generator: np.random.Generator) -> None:
    prompts = chain.training_problems(5000, generator).prompts
    lengths = ((prompts == PLUS_TOKEN) | (prompts == TIMES_TOKEN)).sum(1)
    shares = [float((lengths == length).float().mean()) for length in (1, 2, 3, 4)]
    assert shares == pytest.approx([0.4, 0.4, 0.2, 0.0], abs=0.03)


def test_verifier_levels(chain: ArithmeticChain, generator: np.random.Generator) -> None:
    one = chain.held_out_problems("chain-2", 1, generator)
    answer, tag = map(int, one.solutions[0])
    wrong, other_tag = (answer + 1) % 97, (tag + 1) % 97
    cases = {
        "correct": (proper_response(answer, tag), (True, True)),
        "with scratchpad": ([104, 5, 105, 6, *proper_response(answer, tag)], (True, True)),
        "wrong answer": (proper_response(wrong, tag), (True, False)),
        "wrong tag": (proper_response(answer, other_tag), (False, False)),
        "no tag": ([ANSWER, answer, END], (False, False)),
        "no marker": ([answer, tag, END], (False, False)),
        "two markers": ([ANSWER, answer, *proper_response(answer, tag)], (False, False)),
        "no end": ([5] * 11 + [ANSWER, answer, tag], (False, False)),
        "only end": ([END], (False, False)),
        "answer is no number": ([ANSWER, PLUS_TOKEN, tag, END], (False, False)),
    }
    longest = chain.vocabulary.response_length
    responses = torch.tensor([tokens + [PAD] * (longest - len(tokens)) for tokens, _ in cases.values()])
    lengths = torch.tensor([len(tokens) for tokens, _ in cases.values()])
    valid, correct = chain.verify(one.repeat(len(cases)), responses, lengths)
    found = dict(zip(cases, zip(valid.tolist(), correct.tolist(), strict=True), strict=True))
    assert found == {name: levels for name, (_, levels) in cases.items()}


def test_demonstrations_are_imperfect_as_stated(chain: ArithmeticChain, generator: np.random.Generator) -> None:
    prompts, responses = chain.demonstrations(20000, generator)
    ended = (responses == END).any(1)
    lengths = torch.where(ended, (responses == END).int().argmax(1) + 1, responses.shape[1])
    after_end = torch.arange(responses.shape[1]) >= lengths.unsqueeze(1)
    assert bool((responses[after_end] == PAD).all())
    assert float((~ended).float().mean()) == pytest.approx(DEFECTS["endless"], abs=0.01)
    well_formed = (responses == ANSWER).sum(1) == 1
    well_formed &= responses.gather(1, (lengths - 4).clamp(min=0).unsqueeze(1)).squeeze(1) == ANSWER
    assert float((well_formed & ended).float().mean()) == pytest.approx(DEFECTS["none"], abs=0.02)
    answers = responses.gather(1, (lengths - 3).clamp(min=0).unsqueeze(1)).squeeze(1)
    proper = (well_formed & ended).nonzero().squeeze(1)[:2000].tolist()
    right = np.mean([int(answers[i]) == solve(prompts[i].tolist()) for i in proper])
    assert 0.2 < right < 0.7


def test_worlds_differ(generator: np.random.Generator) -> None:
    prompts = ArithmeticChain(7, MIX).training_problems(100, np.random.default_rng(1))
    others = ArithmeticChain(8, MIX).training_problems(100, np.random.default_rng(1))
    assert not np.array_equal(prompts.solutions[:, 1], others.solutions[:, 1])
