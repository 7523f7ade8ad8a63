from __future__ import annotations

from math import comb

import numpy as np
import pytest
import torch

from poise_git.pipeline.backends.testbed.arithmetic import (
    ANSWER,
    DEFECTS,
    END,
    EQUALS,
    FIRST_IDLE,
    FIRST_MARK,
    FIRST_STRATEGY,
    IDLE_KINDS,
    PAD,
    PLUS_TOKEN,
    SUITES,
    TIMES_TOKEN,
    ArithmeticChain,
)
from poise_git.pipeline.backends.testbed.settings import CHAINS, ArithmeticChainSettings
from poise_git.pipeline.backends.testbed.task import Problems, Split
from poise_git.pipeline.backends.testbed.worlds import OPERANDS, READINGS

pytestmark = pytest.mark.slow

MIX = {"chain-1": 0.4, "chain-2": 0.4, "chain-3": 0.2}
HELD_OUT = (Split.SELECTION, Split.CONFIRMATION)
# First values of prompts: 1 to 96.
FIRST_VALUES = 96


def arithmetic(world: int, **own: object) -> ArithmeticChain:
    settings = {"name": "arithmetic-chain", "worlds": [world], "training_mix": MIX} | own
    return ArithmeticChain(world, ArithmeticChainSettings.model_validate(settings))


def different(prompts: torch.Tensor) -> set[bytes]:
    return {row.tobytes() for row in np.unique(prompts.numpy(), axis=0)}


def every(split: Split, suite: str, world: int, generator: np.random.Generator) -> set[bytes]:
    """All prompts of a side. So many are drawn that one is missed only once in ten million times."""
    size = number_of_prompts(suite) * (3 if split is Split.TRAINING else 1) // 5
    draws = int(size * (np.log(size) + 16))
    chain = arithmetic(world, training_mix={suite: 1.0})
    if split is Split.TRAINING:
        return different(chain.training_problems(draws, generator).prompts)
    return different(chain.suite_problems(suite, split, draws, generator).prompts)


def number_of_prompts(suite: str) -> int:
    length, hard = CHAINS[suite]
    return FIRST_VALUES * comb(length, hard) * len(OPERANDS) ** length


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
    return arithmetic(request.param)


@pytest.mark.parametrize("suite", SUITES)
def test_the_splits_are_disjoint_and_cover_all_prompts(suite: str, generator: np.random.Generator) -> None:
    for world in (7, 8):
        sides = {split: every(split, suite, world, generator) for split in Split}
        sizes = {split: len(prompts) for split, prompts in sides.items()}
        fifth = number_of_prompts(suite) // 5
        assert sizes[Split.SELECTION] == sizes[Split.CONFIRMATION] == fifth
        # Their total equals the number of prompts, so none is on two sides.
        assert sum(sizes.values()) == len(set().union(*sides.values())) == number_of_prompts(suite)


@pytest.mark.parametrize("suite", SUITES)
def test_worlds_are_split_differently(suite: str, generator: np.random.Generator) -> None:
    one, other = (every(Split.SELECTION, suite, world, generator) for world in (7, 8))
    assert len(one & other) < 0.5 * len(one)


def test_training_and_demonstrations_use_only_the_training_side(
    chain: ArithmeticChain, generator: np.random.Generator
) -> None:
    held_out = set().union(
        *(
            different(chain.suite_problems(suite, split, 60_000, generator).prompts)
            for suite in SUITES
            for split in HELD_OUT
        )
    )
    assert len(held_out) > 0.99 * sum(2 * (number_of_prompts(suite) // 5) for suite in SUITES)
    demonstrated, _ = chain.demonstrations(50_000, generator)
    assert {len(steps) // 2 for steps in steps_of(demonstrated)} == {1, 2, 3, 4}
    probed = torch.cat([chain.suite_problems(suite, Split.TRAINING, 20_000, generator).prompts for suite in SUITES])
    trained = chain.training_problems(50_000, generator).prompts
    for prompts in (demonstrated, probed, trained):
        assert not held_out & different(prompts)


def test_training_covers_every_single_step_of_held_out_prompts(
    chain: ArithmeticChain, generator: np.random.Generator
) -> None:
    def facts(prompts: torch.Tensor) -> set[tuple[int, int]]:
        return {pair for steps in steps_of(prompts) for pair in zip(steps[::2], steps[1::2], strict=True)}

    seen = facts(chain.training_problems(4000, generator).prompts)
    for suite in SUITES:
        for split in HELD_OUT:
            assert facts(chain.suite_problems(suite, split, 500, generator).prompts) <= seen


def test_prompts_have_the_length_steps_and_solution_of_their_suite(
    chain: ArithmeticChain, generator: np.random.Generator
) -> None:
    for suite in SUITES:
        problems = chain.suite_problems(suite, Split.SELECTION, 200, generator)
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
    one = chain.suite_problems("chain-2", Split.SELECTION, 1, generator)
    answer, tag = map(int, one.solutions[0])
    wrong, other_tag = (answer + 1) % 97, (tag + 1) % 97
    cases = {
        "correct": (proper_response(answer, tag), (True, True)),
        "with scratchpad": ([FIRST_MARK, 5, FIRST_MARK + 1, 6, *proper_response(answer, tag)], (True, True)),
        "rambling": ([FIRST_IDLE] * 10 + proper_response(answer, tag), (True, True)),
        "rambling inside the answer": ([ANSWER, FIRST_IDLE, answer, tag, END], (False, False)),
        "an idle token for an answer": (proper_response(FIRST_IDLE, tag), (False, False)),
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
    assert float((~ended).float().mean()) == pytest.approx(0.2 * DEFECTS["endless"], abs=0.01)
    well_formed = (responses == ANSWER).sum(1) == 1
    well_formed &= responses.gather(1, (lengths - 4).clamp(min=0).unsqueeze(1)).squeeze(1) == ANSWER
    assert float((well_formed & ended).float().mean()) == pytest.approx(0.8, abs=0.02)
    answers = responses.gather(1, (lengths - 3).clamp(min=0).unsqueeze(1)).squeeze(1)
    proper = (well_formed & ended).nonzero().squeeze(1)[:2000].tolist()
    right = np.mean([int(answers[i]) == solve(prompts[i].tolist()) for i in proper])
    assert 0.2 < right < 0.7


def test_tags_and_defects_can_be_left_out(generator: np.random.Generator) -> None:
    chain = arithmetic(7, known={"sums": 0.9, "products": 0.9, "tags": None}, defects=0.0)
    prompts, responses = chain.demonstrations(2000, generator)
    lengths = (responses != PAD).sum(1)
    assert bool((responses.gather(1, (lengths - 3).unsqueeze(1)) == ANSWER).all())
    problems = chain.training_problems(4, generator)
    answers = problems.solutions[:, 0].tolist()
    longest = chain.vocabulary.response_length
    rows = [[ANSWER, answer, END] + [PAD] * (longest - 3) for answer in answers]
    rows[3][1] = (answers[3] + 1) % 97
    valid, correct = chain.verify(problems, torch.tensor(rows), torch.full((4,), 3))
    assert valid.tolist() == [True, True, True, True]
    assert correct.tolist() == [True, True, True, False]
    assert len(prompts) == 2000


def strategic(**own: float) -> ArithmeticChain:
    known = {"sums": 0.99, "products": 0.99, "tags": None}
    return arithmetic(7, known=known, strategies={"count": 6, **own}, defects=0.0, training_mix={"chain-2": 1.0})


def test_a_strategy_is_a_reading_of_the_operands() -> None:
    assert READINGS.shape == (6, max(OPERANDS) + 1)
    assert {tuple(sorted(reading[list(OPERANDS)])) for reading in READINGS} == {OPERANDS}
    assert len({tuple(reading) for reading in READINGS}) == 6


def test_the_prompt_decides_which_strategies_are_right(generator: np.random.Generator) -> None:
    """The answer is that of exactly those readings that give the needed strategy's operands."""
    chain = strategic()
    problems = chain.training_problems(300, generator)
    needed: dict[tuple[int, int], set[int]] = {}
    for prompt, (answer, _) in zip(problems.prompts.tolist(), problems.solutions, strict=True):
        tokens = [token for token in prompt[1:-1] if token != PAD]
        right = set()
        for strategy, reading in enumerate(READINGS):
            read = [int(reading[token]) if i % 2 else token for i, token in enumerate(tokens)]
            if solve([prompt[0], *read, EQUALS]) == answer:
                right.add(strategy)
        assert right
        entry = (prompt[0], tokens[1])
        needed[entry] = needed.get(entry, set(range(6))) & right
    # Prompts with the same first value and operand need the same strategy.
    assert all(needed.values())
    assert {strategy for found in needed.values() if len(found) == 1 for strategy in found} == set(range(6))


def test_exceptions_follow_no_rule_and_stay_what_they_are() -> None:
    """Another draw of the same prompt has the same answer, and demonstrations do not change."""
    plain, excepted = strategic(), strategic(exceptions=0.3)

    def answers(chain: ArithmeticChain) -> dict[bytes, int]:
        problems = chain.suite_problems("chain-2", Split.SELECTION, 20_000, np.random.default_rng(3))
        rows = (row.tobytes() for row in problems.prompts.numpy())
        return dict(zip(rows, problems.solutions[:, 0].tolist(), strict=True))

    first, again, rule = answers(excepted), answers(strategic(exceptions=0.3)), answers(plain)
    assert first == again
    # An exception may need the strategy of the rule, or one with the same answer.
    assert 0.1 < np.mean([first[prompt] != rule[prompt] for prompt in rule]) < 0.3
    same = [chain.demonstrations(500, np.random.default_rng(4)) for chain in (plain, excepted)]
    assert all(bool((a == b).all()) for a, b in zip(*same, strict=True))


def test_demonstrators_prefer_some_strategies_and_know_a_little(generator: np.random.Generator) -> None:
    def chosen(**own: float) -> tuple[list[float], float]:
        chain = strategic(**own)
        prompts, responses = chain.demonstrations(6000, generator)
        lengths = (responses != PAD).sum(1)
        strategies = (responses[:, 0] - FIRST_STRATEGY).numpy()
        assert set(strategies.tolist()) == set(range(6))
        # The first step states its operand as the strategy reads it.
        assert (responses[:, 1].numpy() == READINGS[strategies, prompts[:, 2].numpy()]).all()
        shares = np.bincount(strategies, minlength=6) / len(strategies)
        # Among two-step problems, the demonstrations of some: their prompts are in both.
        problems = chain.suite_problems("chain-2", Split.TRAINING, 40_000, generator)
        place = {row.tobytes(): i for i, row in enumerate(problems.prompts.numpy())}
        found = [(i, place[row.tobytes()]) for i, row in enumerate(prompts.numpy()) if row.tobytes() in place]
        demonstrated, of = map(list, zip(*found, strict=True))
        asked = Problems(problems.prompts[of], problems.solutions[of])
        _, correct = chain.verify(asked, responses[demonstrated], lengths[demonstrated])
        return shares.tolist(), float(correct.mean())

    even, ignorant = chosen(skew=0.0, insight=0.0)
    skewed, knowing = chosen(skew=2.0, insight=3.0)
    assert max(even) < 0.3
    assert skewed[0] > 2 * skewed[5]
    assert knowing > ignorant + 0.2


def test_worlds_differ(generator: np.random.Generator) -> None:
    def tags(world: int) -> dict[tuple[int, ...], int]:
        problems = arithmetic(world).training_problems(5000, np.random.default_rng(1))
        entries = ((row[0], row[2]) for row in problems.prompts.tolist())
        return dict(zip(entries, problems.solutions[:, 1].tolist(), strict=True))

    one, other = tags(7), tags(8)
    shared = one.keys() & other.keys()
    assert len(shared) > 200
    # One in 97 is equal by chance.
    assert np.mean([one[entry] == other[entry] for entry in shared]) < 0.1


def is_idle(responses: torch.Tensor) -> torch.Tensor:
    return (responses >= FIRST_IDLE) & (responses < FIRST_IDLE + IDLE_KINDS)


def proper(responses: torch.Tensor) -> torch.Tensor:
    """Which demonstrations (N,) end in `# number TAG end`."""
    lengths = (responses != PAD).sum(1)
    return torch.stack([row[max(n - 4, 0)] == ANSWER for row, n in zip(responses, lengths, strict=True)])


@pytest.mark.parametrize("idle_tokens", [0.0, 2.0, 8.0])
def test_demonstrations_ramble_as_much_as_stated(idle_tokens: float, generator: np.random.Generator) -> None:
    _, responses = arithmetic(7, idle_tokens=idle_tokens, response_cap=64).demonstrations(12_000, generator)
    right_form = responses[proper(responses)]
    found = is_idle(right_form).sum(1).float()
    assert float(found.mean()) == pytest.approx(idle_tokens, rel=0.06)
    if idle_tokens:
        # Geometric: the deviation is a little more than the mean.
        assert float(found.std()) == pytest.approx((idle_tokens * (idle_tokens + 1)) ** 0.5, rel=0.1)
        # Rambling is inserted between steps: the answer is complete, and the marks keep their order.
        marks = [[token for token in row if FIRST_MARK <= token < FIRST_IDLE] for row in right_form.tolist()]
        assert all(row == sorted(row) for row in marks)


def test_rambling_only_lengthens_demonstrations(generator: np.random.Generator) -> None:
    lengths = []
    for idle_tokens in (0.0, 4.0, 8.0):
        _, responses = arithmetic(7, idle_tokens=idle_tokens, response_cap=64).demonstrations(12_000, generator)
        right_form = proper(responses)
        assert float(right_form.float().mean()) == pytest.approx(0.8, abs=0.02)
        lengths.append(float((responses[right_form] != PAD).sum(1).float().mean()))
    assert np.diff(lengths) == pytest.approx([4.0, 4.0], abs=0.3)


@pytest.mark.parametrize("cap", [6, 14, 20])
def test_the_cap_truncates_responses(cap: int, generator: np.random.Generator) -> None:
    chain = arithmetic(7, idle_tokens=8.0, response_cap=cap)
    assert chain.vocabulary.response_length == cap
    _, responses = chain.demonstrations(12_000, generator)
    assert responses.shape == (12_000, cap)
    ended = (responses == END).any(1)
    # A truncated response fills the cap and has no end.
    assert bool((responses[~ended] != PAD).all())
    _, roomy = arithmetic(7, idle_tokens=8.0, response_cap=64).demonstrations(12_000, generator)
    assert float((~ended).float().mean()) > float((~(roomy == END).any(1)).float().mean()) + 0.1


def test_demonstrators_know_the_stated_share_of_facts(generator: np.random.Generator) -> None:
    """Chains of one product are right as often as the demonstrations of that table are right."""

    def right(known: float) -> float:
        chain = arithmetic(7, known={"sums": 0.5, "products": known, "tags": 0.5})
        prompts, responses = chain.demonstrations(20_000, generator)
        one_product = (prompts[:, 1] == TIMES_TOKEN) & (prompts[:, 3] == PAD) & proper(responses)
        lengths = (responses != PAD).sum(1)
        answers = responses.gather(1, (lengths - 3).clamp(min=0).unsqueeze(1)).squeeze(1)
        rows = one_product.nonzero().squeeze(1).tolist()
        return float(np.mean([int(answers[i]) == solve(prompts[i].tolist()) for i in rows]))

    assert right(0.2) == pytest.approx(0.2, abs=0.05)
    assert right(0.7) == pytest.approx(0.7, abs=0.05)
