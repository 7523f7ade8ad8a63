from __future__ import annotations

import ast
import random
import zlib
from collections import Counter
from dataclasses import replace

import pytest

from poise_git.agents.library import naming
from poise_git.agents.library.agent import LibraryAgent
from poise_git.agents.library.ideas import all_ideas, move_knob
from poise_git.agents.library.mechanisms import conflict, install, knob_values, mechanisms
from poise_git.agents.library.weighing import weights
from poise_git.archive.entries import ROOT, Estimate, Proposal, Reflection, Status
from poise_git.archive.facts import ReflectionFacts
from poise_git.errors import CheckFailed
from poise_git.pipeline.checks import same_algorithm
from poise_git.pipeline.checks.claims import decide
from poise_git.pipeline.checks.numeric import NUMERIC
from poise_git.search.context.context import CandidateRecord, Context, Kind
from poise_git.search.literature import Card, Knob
from poise_git.search.proposals.directions import OPEN
from tests.agents.library.support import card, cards, coded_cards, context, known, load, root_text, told

pytestmark = pytest.mark.slow

AGENT = LibraryAgent()
EVERYTHING = (OPEN,) * 1000


def child_of(parent: str, *names: str) -> Context:
    """A context whose parent holds the named cards' mechanisms."""
    text = root_text()
    for name in names:
        text = install(text, card(name))
    return context(text, parent=known(parent))


def adding(name: str) -> Proposal:
    """The proposal that adds a card to the root."""
    return next(proposal for proposal in AGENT.propose(context(of=(card(name),)), (OPEN,), 0))


def chances(of: Context) -> Counter[str]:
    """Card -> its share of a first draw, all operations together."""
    ideas = all_ideas(of, mechanisms(of.source, of.cards), random.Random(0))
    shares: Counter[str] = Counter()
    for position, weight in weights(ideas, of).items():
        shares[ideas[position].card.name] += weight
    return Counter({name: share / shares.total() for name, share in shares.items()})


def test_agent_is_registered_by_name() -> None:
    assert AGENT.name == "library"


def test_the_seed_determines_the_proposals() -> None:
    of = child_of("av-grpo", "analytic-variance")
    assert AGENT.propose(of, (OPEN,) * 4, 7) == AGENT.propose(of, (OPEN,) * 4, 7)
    assert AGENT.propose(of, (OPEN,) * 4, 7) != AGENT.propose(of, (OPEN,) * 4, 8)


def test_proposals_differ_and_avoid_taken_names() -> None:
    of = context(taken=frozenset({ROOT, "av-grpo", "loo-grpo", "gspo-grpo"}))
    proposals = AGENT.propose(of, EVERYTHING, 0)
    names = [proposal.name for proposal in proposals]
    assert len(proposals) == len(coded_cards())
    assert len(set(names)) == len(names)
    assert not set(names) & of.taken_names
    assert {"av-grpo-2", "loo-grpo-2", "vm-grpo"} <= set(names)
    assert len({str(proposal.plan) for proposal in proposals}) == len(proposals)


def test_proposals_are_read_back_as_written() -> None:
    for proposal in AGENT.propose(child_of("av-grpo", "analytic-variance"), (OPEN,) * 12, 0):
        assert Proposal.from_data(proposal.to_data()) == proposal


def test_no_card_is_favored_without_a_reason() -> None:
    found = chances(context())
    assert found.keys() == {each.name for each in coded_cards()}
    ordinary = {round(found[each.name], 12) for each in coded_cards() if "known-bad" not in each.tags}
    assert len(ordinary) == 1
    assert found["length-bonus"] == pytest.approx(ordinary.pop() / 4)


def test_draws_follow_the_chances() -> None:
    drawn = Counter(
        proposal.priors[0] for seed in range(50) for proposal in AGENT.propose(context(), (OPEN,) * 4, seed)
    )
    # 200 draws over 37 cards: between 5 and 6 each.
    assert len(drawn) > 30
    assert max(drawn.values()) < 20


def test_a_directive_favors_cards_that_match_it() -> None:
    concise, plain = chances(context(directive="accurate and concise")), chances(context())
    for each in coded_cards():
        if {"concise", "conciseness"} & set(each.tags):
            assert concise[each.name] > 3 * plain[each.name]
    assert concise["cispo"] < plain["cispo"]


@pytest.mark.parametrize(
    ("difference", "status", "factor"),
    # 2^(z/2), with z at most 4 standard errors (-1 for a failure), halved by the pseudo-observation of 0
    [(-0.05, Status.EVALUATED, 0.5), (0.05, Status.EVALUATED, 2.0), (0.0, Status.FAILED, 2**-0.25)],
)
def test_evidence_changes_the_probability_of_a_card(difference: float, status: Status, factor: float) -> None:
    row = {"difference": difference, "se": 0.01}
    reflection = (
        None
        if status is Status.FAILED
        else Reflection(ReflectionFacts.from_data({"against_parent": {"utility": row}}), "")
    )
    tried = known("cispo-grpo", proposal=adding("cispo"), reflection=reflection, status=status)
    informed = chances(context(items=[told(Kind.EXPLORATORY, tried)]))
    assert informed["cispo"] / informed["soft-gate"] == pytest.approx(factor)


def test_a_loss_after_a_removal_supports_the_mechanism() -> None:
    removal = replace(adding("cispo"), plan={"operation": "remove", "card": "cispo", "knobs": {}})
    row = {"difference": -0.05, "se": 0.01}
    ablated = known(
        "grpo-2",
        proposal=removal,
        reflection=Reflection(ReflectionFacts.from_data({"against_parent": {"utility": row}}), ""),
    )
    informed = chances(context(items=[told(Kind.EXPLORATORY, ablated)]))
    assert informed["cispo"] / informed["soft-gate"] == pytest.approx(2.0)


def test_gain_over_the_root_counts_if_there_is_no_reflection() -> None:
    harmful = known("cispo-grpo", proposal=adding("cispo"), gain=Estimate(-0.02, 0.01, 4))
    informed = chances(context(items=[told(Kind.COMPLEMENTARY, harmful)]))
    assert informed["cispo"] / informed["soft-gate"] == pytest.approx(2**-0.5)


def test_parents_weak_spot_draws_mechanisms_that_address_it() -> None:
    found = chances(
        replace(context(), parent=known(reflection=Reflection(ReflectionFacts.from_data({"focus": ["validity"]}), "")))
    )
    assert found["validity-masking"] / found["cispo"] == pytest.approx(2.0)


def test_a_mechanism_of_a_sibling_is_not_repeated() -> None:
    proposals = AGENT.propose(context(), EVERYTHING, 0)
    sibling = known(proposals[0].name, proposal=proposals[0])
    again = AGENT.propose(context(items=[told(Kind.SIBLING, sibling)]), EVERYTHING, 0)
    assert proposals[0].priors not in [proposal.priors for proposal in again]
    assert len(again) == len(proposals) - 1


def test_a_conflicting_mechanism_replaces_the_other() -> None:
    of = child_of("focal-av-grpo", "analytic-variance", "difficulty-weighting")
    proposal = next(p for p in AGENT.propose(of, EVERYTHING, 0) if p.priors == ("leave-one-out",))
    assert proposal.plan["operation"] == "replace"
    assert proposal.plan["replaced"] == ["analytic-variance"]
    assert proposal.name == "loo-focal-grpo"
    child = AGENT.implement(proposal, of)
    assert child == install(install(root_text(), card("difficulty-weighting")), card("leave-one-out"))


def test_no_mechanism_is_added_twice_or_beside_a_conflicting_one() -> None:
    of = child_of("gspo-av-grpo", "analytic-variance", "sequence-ratio")
    for proposal in AGENT.propose(of, EVERYTHING, 0):
        present = [found.card for found in mechanisms(AGENT.implement(proposal, of), cards())]
        assert len({each.name for each in present}) == len(present)
        assert not any(conflict(a, b) for i, a in enumerate(present) for b in present[i + 1 :])
        if proposal.plan["operation"] in ("add", "replace"):
            assert proposal.priors[0] not in ("analytic-variance", "sequence-ratio")


def test_a_mutation_changes_one_knob_and_states_it() -> None:
    of = child_of("focal-av-grpo", "analytic-variance", "difficulty-weighting")
    mutations = [p for p in AGENT.propose(of, EVERYTHING, 3) if p.plan["operation"] == "mutate"]
    assert {(p.priors[0], *p.plan["knobs"]) for p in mutations} == {
        ("analytic-variance", "prior"),
        ("analytic-variance", "weight"),
        ("difficulty-weighting", "gamma"),
    }
    tuned = next(p for p in mutations if "weight" in p.plan["knobs"])
    child = AGENT.implement(tuned, of)
    moved = tuned.plan["knobs"]["weight"]
    assert knob_values(child, card("analytic-variance")) == {"prior": 0.5, "weight": moved}
    assert tuned.knobs == {
        "scale.prior": 0.5,
        "add_format_stream.weight": moved,
        "weigh_by_difficulty.gamma": 1.0,
    }
    assert tuned.name == "focal-av-grpo-w2"
    assert tuned.mechanism == f"weight of analytic-variance from 0.4 to {moved:g}"
    changed = [(a, b) for a, b in zip(of.source.splitlines(), child.splitlines(), strict=True) if a != b]
    assert len(changed) == 1


def test_removal_is_an_ablation_of_a_parent_with_several_mechanisms() -> None:
    of = child_of("focal-av-grpo", "analytic-variance", "difficulty-weighting")
    removal = next(
        p for p in AGENT.propose(of, EVERYTHING, 0) if p.plan["operation"] == "remove" and p.name == "focal-grpo"
    )
    assert AGENT.implement(removal, of) == install(root_text(), card("difficulty-weighting"))
    single = child_of("av-grpo", "analytic-variance")
    assert not [p for p in AGENT.propose(single, EVERYTHING, 0) if p.plan["operation"] == "remove"]


def test_a_mechanism_is_borrowed_from_a_better_candidate_with_its_knobs() -> None:
    added = adding("difficulty-weighting")
    tuned = replace(added, knobs={"weigh_by_difficulty.gamma": 0.7})
    lender = known(tuned.name, proposal=tuned, gain=Estimate(0.03, 0.01, 4))
    of = replace(child_of("av-grpo", "analytic-variance"), items=(told(Kind.PARETO, lender),))
    borrowed = next(p for p in AGENT.propose(of, EVERYTHING, 0) if p.plan["operation"] == "borrow")
    assert borrowed.plan["lender"] == "focal-grpo"
    assert knob_values(AGENT.implement(borrowed, of), card("difficulty-weighting")) == {"gamma": 0.7}
    worse = replace(lender, metrics=replace(lender.metrics, gain=Estimate(-0.03, 0.01, 4)))  # type: ignore[type-var]
    of = replace(of, items=(told(Kind.PARETO, worse),))
    assert not [p for p in AGENT.propose(of, EVERYTHING, 0) if p.plan["operation"] == "borrow"]


def test_a_proposal_states_its_reasons() -> None:
    reflection = Reflection(
        ReflectionFacts.from_data({"against_parent": {"utility": {"difference": 0.02, "se": 0.01}}}), ""
    )
    added = adding("length-gate")
    tried = known("dace-grpo", proposal=added, reflection=reflection)
    of = context(install(root_text(), card("cispo")), parent=known("cispo-grpo", utility=0.25), directive="concise",
                 items=[told(Kind.EXPLORATORY, tried)])  # fmt: skip
    proposal = next(p for p in AGENT.propose(of, EVERYTHING, 0) if p.priors == ("length-gate",))
    for words in ("arXiv:2603.23951", "cispo-grpo has U = 0.250 ± 0.010", "+2.0 in dace-grpo", "“concise”"):
        assert words in proposal.hypothesis
    assert [claim.arguments["figure"] for claim in proposal.claims if claim.check == "effect"] == [
        "response_length",
        "utility",
    ]


def test_claims_that_other_mechanisms_invalidate_are_not_made() -> None:
    def checks(of: Context) -> list[str]:
        proposal = next(p for p in AGENT.propose(of, EVERYTHING, 0) if p.priors == ("difficulty-weighting",))
        return [claim.check for claim in proposal.claims if claim.check != "effect"]

    assert checks(child_of("av-grpo", "analytic-variance")) == ["reduction", "zero-mean", "order"]
    assert checks(child_of("pos-grpo", "positive-only")) == ["reduction"]
    by_hand = root_text().replace("return rollouts.score\n", "return rollouts.score**2\n")
    assert checks(context(by_hand, parent=known("mine"))) == []


@pytest.mark.parametrize("seed", range(12))
def test_a_chain_of_proposals_passes_all_checks(seed: int) -> None:
    """A lineage of six steps, as the loop makes it: every child passes the checks, and its claims hold."""
    of, parent = context(), load(root_text())
    for depth in range(6):
        proposal = AGENT.propose(of, (OPEN,), seed * 100 + depth)[0]
        child = AGENT.implement(proposal, of)
        trial = _assert_sound(proposal, child, of, parent)
        taken = of.taken_names | {proposal.name}
        of, parent = context(child, parent=known(proposal.name, proposal=proposal), taken=taken), trial
        assert len(proposal.name) <= naming.NAME_LENGTH


def _later_ones_on_top_of(first: Card, most: int | None = None) -> None:
    """Add each later card, or replace the first one if they conflict; change each knob."""
    later = [each for each in coded_cards() if each.name > first.name]
    chosen = later if most is None else random.Random(first.name).sample(later, min(most, len(later)))
    of = replace(child_of(f"{first.short}-grpo", first.name), cards=(first, *chosen))
    parent = load(of.source)
    for proposal in AGENT.propose(of, EVERYTHING, 0):
        _assert_sound(proposal, AGENT.implement(proposal, of), of, parent)


@pytest.mark.parametrize("first", coded_cards(), ids=lambda each: each.name)
def test_pairs_of_cards_are_sound_as_the_agent_proposes_them(first: Card) -> None:
    _later_ones_on_top_of(first, 3)


@pytest.mark.nightly
@pytest.mark.parametrize("first", coded_cards(), ids=lambda each: each.name)
def test_every_pair_of_cards_is_sound_as_the_agent_proposes_it(first: Card) -> None:
    _later_ones_on_top_of(first)


# These checks take the most time, so they run on a third of the children, the same ones every time.
COSTLY = ("memory", "micro-batches", "amplification")


def _assert_sound(proposal: Proposal, child: str, of: Context, parent: object) -> object:
    assert not same_algorithm(child, of.source)
    ast.parse(child)
    trial = load(child, proposal.claims)
    costly = COSTLY if zlib.crc32(child.encode()) % 3 else ()
    checks = [(name, check) for name, check in NUMERIC if name not in costly]
    assert [(name, reason) for name, check in checks if (reason := check(trial))] == []
    for claim in proposal.claims:
        if claim.check != "effect":
            held, because = decide(claim.check, claim.arguments, trial, parent)  # type: ignore[arg-type]
            assert held, (proposal.name, claim, because)
    return trial


def test_a_plan_of_another_agent_is_refused() -> None:
    proposal = AGENT.propose(context(), (OPEN,), 0)[0]
    for plan in ({}, {"operation": "add", "card": "no-such-card", "knobs": {}}, {"operation": "guess"}):
        with pytest.raises(CheckFailed, match="cannot be carried out"):
            AGENT.implement(replace(proposal, plan=plan), context())


def test_a_parent_without_the_stage_gets_a_mechanism_that_fits() -> None:
    text = root_text().replace("def regularizer(", "def penalty_of(").replace("regularizer(old", "penalty_of(old")
    proposals = AGENT.propose(context(text, parent=known("mine")), EVERYTHING, 0)
    unfit = {card.name for card in coded_cards() if "regularizer" in card.stages}
    assert not unfit & {proposal.priors[0] for proposal in proposals}
    assert len(proposals) == len(coded_cards()) - len(unfit)


def test_repair_adds_missing_imports_and_bounds_knobs() -> None:
    of = context()
    proposal = AGENT.propose(of, (OPEN,), 0)[0]
    failure = CheckFailed("import", "NameError: response_mean")
    sound = install(root_text(), card("sequence-ratio"))
    assert AGENT.repair(proposal, sound.replace("masked_mean, response_mean,", "masked_mean,"), failure, of) == sound
    wild = install(root_text(), card("advantage-clip"), {"limit": 1e9})
    mended = AGENT.repair(proposal, wild, failure, of)
    assert mended is not None
    assert knob_values(mended, card("advantage-clip")) == {"limit": 5.0}
    assert AGENT.repair(proposal, sound, failure, of) is None
    assert AGENT.repair(proposal, "def f(:", failure, of) is None


@pytest.mark.parametrize("value", [0.01, 0.1, 1.0, 10.0])
def test_knobs_move_by_ratio_in_wide_ranges_and_stay_inside(value: float) -> None:
    knob = Knob(function="f", argument="a", default=1.0, low=0.01, high=10.0)
    moved = [move_knob(knob, value, random.Random(seed)) for seed in range(200)]
    assert all(each is not None and knob.low <= each <= knob.high and each != value for each in moved)
    # 15% to 50% of three decades.
    assert all(each is not None and 2.5 < max(each / value, value / each) < 35 for each in moved)


def test_integer_knobs_move_by_whole_numbers() -> None:
    knob = Knob(function="reward_signal", argument="k", default=4, low=2, high=8)
    moved = {move_knob(knob, 4, random.Random(seed)) for seed in range(100)}
    assert moved <= {2, 3, 5, 6, 7, 8}
    assert len(moved) > 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (naming.extended("av-grpo", "vm"), "vm-av-grpo"),
        (naming.extended("focal-av-grpo", "loo", ["av"]), "loo-focal-grpo"),
        (naming.unique("av-grpo", {"av-grpo", "av-grpo-2"}), "av-grpo-3"),
        (naming.tuned("av-grpo", "weight", set()), "av-grpo-w2"),
        (naming.tuned("av-grpo-w2", "weight", {"av-grpo-w2"}), "av-grpo-w3"),
        (naming.tuned("av-grpo-w2", "prior", set()), "av-grpo-w2-p2"),
        (naming.unique("-".join(["cliphi"] * 8) + "-old-grpo", set()), "cliphi-cliphi-cliphi-cliphi-cliphi-grpo"),
    ],
)
def test_candidate_names(name: str, expected: str) -> None:
    assert name == expected


def test_candidates_of_a_context_may_lack_all_optional_fields() -> None:
    bare = CandidateRecord(known().candidate, None, None, None)
    of = replace(
        context(), parent=bare, items=tuple(told(kind, bare) for kind in (Kind.PARETO, Kind.SIBLING, Kind.LINEAGE))
    )
    assert len(AGENT.propose(of, (OPEN,) * 4, 0)) == 4
