from __future__ import annotations

import math
from dataclasses import replace

import pytest

from poise_git.agents.library.agent import LibraryAgent
from poise_git.agents.library.mechanisms import install
from poise_git.archive.entries import Claim, Direction, Proposal
from poise_git.search.context.context import Context
from poise_git.search.proposals.directions import OPEN, DirectionKind, assign_directions, stages_of
from poise_git.search.proposals.screening import Opinion, ProposalHistory, screen
from poise_git.settings import ScreeningWeights
from tests import sentences
from tests.agents.library.support import card, coded_cards, context, known, root_text

pytestmark = pytest.mark.slow

AGENT = LibraryAgent()
UP = Claim("Utility rises.", "effect", {"figure": "utility", "direction": "up"})
DOWN = Claim("Utility falls.", "effect", {"figure": "utility", "direction": "down"})
LENGTH = Claim("Shorter.", "effect", {"figure": "response_length", "direction": "down"})
REDUCTION = Claim("At 0 it is the parent.", "reduction", {"function": "f", "argument": "k", "value": 0})


def proposed(of: Context, name: str) -> Proposal:
    return next(each for each in AGENT.propose(of, (OPEN,) * 100, 0) if each.priors == (name,))


def opinion(proposal: Proposal, of: Context) -> Opinion:
    (found,) = AGENT.screen(of, [proposal])
    return found


@pytest.mark.parametrize(
    ("claims", "consistency", "reason"),
    [
        ((REDUCTION, LENGTH, UP), 1.0, sentences.CLAIMS_TEST_IT),
        ((LENGTH, UP), 2 / 3, "no claim on anything that code decides"),
        ((UP,), 1 / 3, "no claim on anything that code decides or a figure of its own"),
        ((), 0.0, sentences.NO_CLAIM_TESTS_IT),
        ((REDUCTION, UP, DOWN), 0.0, sentences.CLAIMS_CONTRADICT.format(figure="utility")),
    ],
)
def test_consistency_measures_whether_claims_test_the_proposal(
    claims: tuple[Claim, ...], consistency: float, reason: str
) -> None:
    of = context()
    found = opinion(replace(proposed(of, "length-gate"), claims=claims), of)
    assert found.consistency == pytest.approx(consistency)
    assert found.accepted == (consistency > 0)
    assert found.reason.startswith(reason)


def test_a_claim_about_the_assigned_regime_raises_no_score() -> None:
    of, sent = context(), Direction(DirectionKind.REGIME, "length", "weak")
    raised = Claim("It rises.", "effect", {"figure": "length", "direction": "up"})
    plain = replace(proposed(of, "length-gate"), claims=(UP,))
    assert opinion(replace(plain, claims=(raised, UP), direction=sent), of) == opinion(plain, of)


def test_feasibility_depends_on_the_parent() -> None:
    of = context(install(root_text(), card("analytic-variance")), parent=known("av-grpo"))
    assert opinion(proposed(of, "length-gate"), of).feasibility == 1.0
    replacing = opinion(proposed(of, "no-std"), of)
    assert replacing.feasibility == 0.75
    assert sentences.REPLACES.format(mechanism="analytic-variance") in replacing.reason
    plan = {"operation": "add", "card": "no-such-card", "knobs": {}}
    alien = opinion(replace(proposed(of, "length-gate"), plan=plan), of)
    assert (alien.feasibility, alien.accepted) == (0.0, False)
    assert alien.reason.startswith("cannot be written: ")


def test_expected_improvement_is_the_shrunk_mean_gain_of_relatives() -> None:
    of = context()
    proposal = proposed(of, "length-gate")

    def improvement(*gains: float) -> float:
        return opinion(proposal, replace(of, effects={"length-gate": gains, "cispo": (9.0,)})).improvement

    assert improvement() == 0.5
    assert improvement(1.0) == pytest.approx(0.5 + 0.5 * math.tanh(0.5))
    assert improvement(1.0, 1.0, 1.0) > improvement(1.0) > 0.5 > improvement(-1.0)
    several = context(install(install(root_text(), card("cispo")), card("length-gate")), parent=known("x"))
    proposals = AGENT.propose(several, (OPEN,) * 100, 0)
    removal = next(each for each in proposals if each.plan["operation"] == "remove" and each.priors == ("cispo",))
    assert opinion(removal, replace(several, effects={"cispo": (1.0,)})).improvement < 0.5


def test_the_agent_accepts_its_own_proposals() -> None:
    for source in ("analytic-variance", "soft-gate", "length-gate"):
        of = context(install(root_text(), card(source)), parent=known("parent"))
        proposals = AGENT.propose(of, (OPEN,) * 100, 0)
        assert len(proposals) > 30
        assert all(each.accepted for each in AGENT.screen(of, proposals))


def test_each_direction_gets_a_proposal_within_it() -> None:
    by_name = {each.name: each for each in coded_cards()}
    of = context(install(root_text(), card("analytic-variance")), parent=known("av-grpo"))
    for seed in range(20):
        directions = assign_directions(of, 6, seed)
        proposals = AGENT.propose(of, directions, seed)
        assert [(each.direction.kind, each.direction.name) for each in proposals if each.direction] == [
            (each.kind, each.name) for each in directions
        ]
        assert len({str(each.plan) for each in proposals}) == 6
        for proposal in proposals:
            direction, found = proposal.direction, by_name[proposal.priors[0]]
            assert direction is not None
            if not direction.departure:
                inside = stages_of(found) if direction.kind == DirectionKind.STAGE else {found.family}
                assert direction.name in inside


def test_a_proposal_for_a_regime_has_a_suitable_mechanism_and_claim() -> None:
    of, sent = context(), Direction(DirectionKind.REGIME, "length", "weak")
    for seed in range(10):
        (proposal,) = AGENT.propose(of, [sent], seed)
        assert "length" in {part for tag in card(proposal.priors[0]).tags for part in tag.split("-")}
        raised = {"figure": "length", "direction": "up"}
        assert Claim("The figure of length rises against the parent.", "effect", raised) in proposal.claims


def test_an_exhausted_direction_is_left_for_one_that_no_other_proposal_has() -> None:
    few = (card("leave-one-out"), card("cispo"), card("soft-gate"))
    directions = [
        Direction(DirectionKind.FAMILY, "regularization", "why not"),
        Direction(DirectionKind.STAGE, "token_objective", "why not"),
    ]
    for seed in range(5):
        astray, kept = AGENT.propose(context(of=few), directions, seed)
        assert astray.direction is not None
        assert astray.direction.departure == (sentences.NO_IDEA_FITS.format(direction="family regularization"))
        assert astray.priors == ("leave-one-out",)
        assert kept.direction == directions[1]


def test_a_rejected_proposal_is_not_repeated() -> None:
    of = context()
    proposals = AGENT.propose(of, (OPEN,) * 4, 3)
    rejected = screen(proposals, AGENT.screen(of, proposals), ProposalHistory(), frozenset(), ScreeningWeights())
    again = AGENT.propose(replace(of, rejected=rejected), (OPEN,) * 100, 3)
    assert not {each.priors for each in proposals} & {each.priors for each in again}


def test_proposals_that_match_the_directive_have_a_higher_expected_gain() -> None:
    plain, told = context(), context(directive="concise")
    assert opinion(proposed(plain, "length-gate"), plain).improvement == 0.5
    found = opinion(proposed(told, "length-gate"), told)
    assert found.improvement > 0.5
    assert found.reason.endswith(sentences.CARD_MATCHES)
    assert opinion(proposed(told, "leave-one-out"), told).improvement == 0.5
