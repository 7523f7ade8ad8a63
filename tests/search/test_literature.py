"""The shipped cards: each computes its formula, makes true claims, and can be added and removed."""

from __future__ import annotations

import ast
import difflib
import random
from functools import cache

import pytest
import torch
from torch import Tensor

from poise_git.agents.library.mechanisms import conflict, install, knob_values, mechanisms, uninstall
from poise_git.errors import SettingsError
from poise_git.pipeline.checks.batches import Batch
from poise_git.pipeline.checks.claims import decide
from poise_git.pipeline.checks.numeric import NUMERIC
from poise_git.pipeline.checks.static import STATIC, Sources
from poise_git.pipeline.checks.trial import Trial
from poise_git.search.literature import Card, load_cards
from tests import sentences
from tests.agents.library.formulas import ADVANTAGES, GRADIENTS, TOKEN_WEIGHTS, Response, grpo
from tests.agents.library.support import cards, claims_at_defaults, coded_cards, load, recipe, root_text

by_name = pytest.mark.parametrize("card", coded_cards(), ids=lambda card: card.name)
# Groups of eight with every relevant composition, groups of other sizes, and groups of one.
COMPOSITIONS = (
    "iiiwwwcc",
    "iiiiiiic",
    "wwwwwwwc",
    "cccccccw",
    "ccccciiw",
    "iiiiiwww",
    "iwc",
    "iiii",
    "wwww",
    "cccc",
    "i",
    "w",
    "c",
)
LEVELS = {"i": 0.0, "w": 0.4, "c": 1.0}
TOKENS = 12


def groups_of(seed: int) -> list[list[Response]]:
    generator = random.Random(seed)
    groups = []
    for number, composition in enumerate(COMPOSITIONS):
        levels = generator.sample(composition, len(composition))
        groups.append([Response(LEVELS[level], generator.randint(2, TOKENS), number) for level in levels])
    return groups


def tensors_of(responses: list[Response]) -> tuple[Tensor, Tensor, list[int]]:
    lengths = torch.tensor([response.length for response in responses])
    mask = (torch.arange(TOKENS) < lengths.unsqueeze(-1)).long()
    rewards = torch.zeros(len(responses), TOKENS, dtype=torch.float64)
    rewards[torch.arange(len(responses)), lengths - 1] = torch.tensor(
        [response.score for response in responses], dtype=torch.float64
    )
    return rewards, mask, [response.group for response in responses]


def batch_of(
    rewards: Tensor, mask: Tensor, index: list[int], old: Tensor | None = None, new: Tensor | None = None
) -> Batch:
    none = torch.zeros_like(rewards)
    return Batch("of groups", rewards, mask, index, none if old is None else old, none if new is None else new)


def test_every_coded_card_has_an_independent_formula() -> None:
    assert {card.name for card in coded_cards()} == ADVANTAGES.keys() | GRADIENTS.keys()
    assert len(coded_cards()) >= 50


def test_names_and_short_names_of_cards_are_unique() -> None:
    assert len({card.name for card in cards()}) == len({card.short for card in cards()}) == len(cards())


def test_published_algorithms_have_cards() -> None:
    """GRPO and its successors; the card file has more than a dozen mechanisms of POISE (2603.23951)."""
    published = (
        "2402.03300 2503.20783 2503.14476 2507.18071 2507.20673 2511.20347 2510.06062 2506.13585 2402.14740 2501.03262 "
        "2505.23585 2504.02546 2505.22617 2505.15201 2503.19595 2508.10751 2506.14758 2508.08221 2601.05242 2506.02864 "
        "2509.18851 2509.21880 2506.01347 2602.02099 2506.05256 2501.12599 2502.04463 2602.06717 2509.22611 2601.08521 "
        "2605.21125 2509.20712 2509.07558 2602.04879 2405.19107 2310.10505"
    )
    assert set(published.split()) <= {card.arxiv for card in cards()}
    assert sum(card.arxiv == "2603.23951" for card in cards()) > 12


MINIMAL = """name: mine
short: mine
title: Mine
arxiv: derived
family: baseline
mechanism: Nothing.
formula: A
helps: Never.
risks: None.
stages: [baseline]
"""


def test_a_file_defines_a_card() -> None:
    (card,) = load_cards({"literature/mine.yaml": MINIMAL})
    assert (card.source, card.stages) == ("derived", ("baseline",))
    assert {card.name: card.stages for card in cards()}["decoupled-streams"] == ("reward_signal", "shape_advantages")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("arxiv: derived", "arxiv: null", "literature/mine.yaml:4: arxiv: "),
        ("arxiv: derived", "arxiv: unknown", "literature/mine.yaml:4: arxiv: "),
        ("stages: [baseline]", "", "stages: Field required"),
        ("stages: [baseline]", "stages: []", "literature/mine.yaml:10: stages: "),
        (
            "stages: [baseline]",
            "stages: [bassline]",
            "literature/mine.yaml:10: stages.0: Input should be",
        ),
        ("name: mine", "name: Not Kebab", "literature/mine.yaml:1: name: "),
        ("risks: None.", "risks: None.\nmore: 1", "literature/mine.yaml:10: more: unknown field"),
        (
            "risks: None.",
            "risks: None.\nconflicts: [nobody]",
            "literature/mine.yaml:10: conflicts: there is no card nobody",
        ),
        (
            "stages: [baseline]",
            "stages: [baseline]\nedits: [{stage: baseline, set: {a: 1}}]",
            sentences.CARD_STAGES,
        ),
    ],
)
def test_a_malformed_card_is_refused_with_file_line_and_reason(old: str, new: str, error: str) -> None:
    with pytest.raises(SettingsError) as failure:
        load_cards({"literature/mine.yaml": MINIMAL.replace(old, new)})
    assert error in str(failure.value)


@pytest.mark.parametrize(("field", "line"), [("name", 1), ("short", 2)])
def test_two_cards_with_one_name_are_refused(field: str, line: int) -> None:
    other = MINIMAL.replace("mine", "other").replace(f"{field}: other", f"{field}: mine")
    with pytest.raises(SettingsError) as failure:
        load_cards({"literature/b.yaml": other, "literature/a.yaml": MINIMAL})
    taken = sentences.CARD_NAME_TAKEN.format(name="mine", field=field, file="literature/a.yaml")
    assert str(failure.value) == f"literature/b.yaml:{line}: {field}: {taken}"


@pytest.mark.parametrize("card", cards(), ids=lambda card: card.name)
def test_card_is_complete(card: Card) -> None:
    assert card.mechanism.endswith(".")
    assert "\n" not in card.mechanism
    assert card.tags
    assert card.claims
    assert set(card.conflicts) <= {other.name for other in cards()}
    for knob in card.knobs.values():
        assert knob.low <= knob.default <= knob.high
        assert knob.neutral is None or knob.low <= knob.neutral <= knob.high


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ADVANTAGES)
def test_advantages_equal_the_formula(name: str, seed: int, algorithms: dict[str, Trial]) -> None:
    groups = groups_of(seed)
    responses = [response for group in groups for response in group]
    order = random.Random(seed).sample(range(len(responses)), len(responses))
    expected = [value for group in groups for value in ADVANTAGES[name](group, groups)]
    rewards, mask, index = tensors_of([responses[i] for i in order])
    found = algorithms[name].advantages(batch_of(rewards, mask, index))
    torch.testing.assert_close(
        found,
        torch.tensor([expected[i] for i in order], dtype=torch.float64).unsqueeze(-1) * mask,
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", GRADIENTS)
def test_policy_gradient_equals_the_formula(name: str, seed: int, algorithms: dict[str, Trial]) -> None:
    groups = groups_of(seed)
    responses = [response for group in groups for response in group]
    advantages = [value for group in groups for value in grpo(group, groups)]
    rewards, mask, index = tensors_of(responses)
    torch.testing.assert_close(
        algorithms[name].advantages(batch_of(rewards, mask, index)),
        torch.tensor(advantages, dtype=torch.float64).unsqueeze(-1) * mask,
        msg="a card of the loss leaves advantages alone",
    )
    generator = torch.Generator().manual_seed(seed)
    old = -3.0 * torch.rand(mask.shape, generator=generator, dtype=torch.float64)
    new = old + 0.4 * torch.randn(mask.shape, generator=generator, dtype=torch.float64)
    per_token = torch.tensor(advantages, dtype=torch.float64).unsqueeze(-1) * mask
    found = algorithms[name].outcome(batch_of(rewards, mask, index, old, new), per_token, mask).gradient

    expected = torch.zeros_like(old)
    weight_of = TOKEN_WEIGHTS.get(name, lambda responses, tokens, length: 1 / tokens)
    for i, response in enumerate(responses):
        tokens = slice(0, response.length)
        weight = weight_of(len(responses), int(mask.sum()), response.length)
        gradient = GRADIENTS[name](advantages[i], old[i, tokens].tolist(), new[i, tokens].tolist())
        expected[i, tokens] = -weight * torch.tensor(gradient, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@by_name
def test_static_and_numeric_checks_pass_and_claims_about_code_hold(card: Card, algorithms: dict[str, Trial]) -> None:
    trial = algorithms[card.name]
    sources = Sources({**recipe(), "algorithm.py": install(root_text(), card)}, recipe())
    assert [(name, reason) for name, check in STATIC if (reason := check(sources))] == []
    assert [(name, reason) for name, check in NUMERIC if (reason := check(trial))] == []
    for claim in claims_at_defaults(card):
        held, because = decide(claim.check, claim.arguments, trial, algorithms["root"])
        assert held, because


@by_name
def test_every_neutral_knob_is_claimed_as_a_reduction_or_belongs_to_one(card: Card) -> None:
    claimed = {claim.arguments["argument"] for claim in card.claims if claim.check == "reduction"}
    assert claimed == {knob.argument for knob in card.knobs.values() if knob.neutral is not None}


@by_name
def test_diff_touches_only_the_functions_of_the_edits(card: Card) -> None:
    before, after = root_text(), install(root_text(), card)
    old, new = _functions(before), _functions(after)
    changed = {name for name in old if old[name] != new.get(name)}
    assert changed == {edit.stage for edit in card.edits}
    added = {node.name for edit in card.edits if edit.add for node in ast.parse(edit.add).body}  # type: ignore[attr-defined]
    assert new.keys() - old.keys() == added
    lines = [line for line in difflib.unified_diff(before.splitlines(), after.splitlines(), n=0) if line[0] in "+-"]
    written = sum(len((edit.replace or edit.add or "\n\n").splitlines()) for edit in card.edits)
    assert len(lines) <= 2 * written + 30


@by_name
def test_a_card_is_recognized_and_its_removal_inverts_its_addition(card: Card) -> None:
    text = install(root_text(), card)
    assert [mechanism.card.name for mechanism in mechanisms(text, cards())] == [card.name]
    assert knob_values(text, card) == {name: knob.default for name, knob in card.knobs.items()}
    assert uninstall(text, card, root_text()) == root_text()


@cache
def _pairs() -> list[tuple[Card, Card]]:
    coded = coded_cards()
    return [(a, b) for i, a in enumerate(coded) for b in coded[i + 1 :] if not conflict(a, b)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "pair", random.Random(0).sample(_pairs(), 40), ids=lambda pair: f"{pair[0].short}-{pair[1].short}"
)
def test_two_cards_compose(pair: tuple[Card, Card]) -> None:
    trial = load(install(install(root_text(), pair[0]), pair[1]))
    assert [(name, reason) for name, check in NUMERIC if (reason := check(trial))] == []


@pytest.mark.slow
@by_name
def test_some_other_cards_can_be_added_and_either_removed(card: Card) -> None:
    others = _others(card)
    _on_top_and_off_again(card, random.Random(card.name).sample(others, min(4, len(others))))


@pytest.mark.nightly
@by_name
def test_every_other_card_can_be_added_and_either_removed(card: Card) -> None:
    _on_top_and_off_again(card, _others(card))


def _others(card: Card) -> list[Card]:
    """The later cards that do not conflict with it."""
    return [right for left, right in _pairs() if left is card]


def _on_top_and_off_again(card: Card, others: list[Card]) -> None:
    alone = install(root_text(), card)
    for other in others:
        text = install(alone, other)
        assert {mechanism.card.name for mechanism in mechanisms(text, cards())} == {card.name, other.name}
        assert uninstall(text, other, root_text()) == alone
        assert uninstall(text, card, root_text()) == install(root_text(), other)


def _functions(text: str) -> dict[str, str]:
    tree = ast.parse(text)
    return {node.name: ast.unparse(node) for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.fixture(scope="module")
def algorithms() -> dict[str, Trial]:
    """The root with each card, loaded; and the root itself."""
    with_card = {card.name: load(install(root_text(), card), claims_at_defaults(card)) for card in coded_cards()}
    return with_card | {"root": load(root_text())}
