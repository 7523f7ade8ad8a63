from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from poise_git.archive.entries import Claim, Proposal
from poise_git.search.proposals.screening import (
    Gate,
    Opinion,
    ProposalHistory,
    Screened,
    Verdict,
    best_first,
    screen,
    weighted,
)
from poise_git.settings import ScreeningWeights

CLAIM = Claim("it helps", "effect", {"figure": "utility", "direction": "up"})
BASE = Proposal(
    name="rloo-grpo",
    parent="grpo",
    mechanism="leave-one-out baseline",
    hypothesis="less bias",
    family="baseline",
    agent="library",
    claims=(CLAIM,),
    priors=("leave-one-out",),
    plan={"operation": "add", "card": "leave-one-out"},
)
ARCHIVED = ProposalHistory().with_archived([BASE])
GOOD = Opinion(1.0, 1.0, 0.5, True, "sound")


def screened(
    proposals: Sequence[Proposal],
    opinions: Sequence[Opinion] | None = None,
    *,
    past: ProposalHistory | None = None,
    taken: frozenset[str] = frozenset(),
    weights: ScreeningWeights | None = None,
) -> dict[str, Screened]:
    opinions = opinions or [GOOD] * len(proposals)
    found = screen(proposals, opinions, past or ProposalHistory(), taken, weights or ScreeningWeights())
    return {entry.proposal.name: entry for entry in found}


def test_the_same_change_to_the_same_parent_is_rejected_under_any_name() -> None:
    again = replace(BASE, name="other-name")
    elsewhere = replace(BASE, name="third-name", parent="rloo-grpo")
    verdicts = screened([again, elsewhere], past=ARCHIVED)
    assert verdicts["other-name"].gate is Gate.REPEATED
    assert verdicts["other-name"].reason == "the same change of the same parent as rloo-grpo"
    assert verdicts["third-name"].verdict is Verdict.PASSED


def test_a_rejected_proposal_stays_rejected_but_a_passed_one_may_return() -> None:
    again = replace(BASE, name="again")

    def of(earlier: Screened) -> Screened:
        return screened([again], past=ProposalHistory().with_screened([earlier]))["again"]

    entry = screened([BASE])["rloo-grpo"]
    for gate in (Gate.OPINION, Gate.WRITING, Gate.DUPLICATE, Gate.REPEATED):
        assert of(entry.rejected_at(gate, "no")).gate is Gate.REPEATED
    # Only its name was wrong.
    assert of(entry.rejected_at(Gate.FORM, "the name is taken")).verdict is Verdict.PASSED
    outdone = of(entry)
    assert outdone.verdict is Verdict.PASSED
    assert outdone.scores["novelty"] == 0.0


def test_gates_state_the_reason() -> None:
    taken = replace(BASE, name="taken")
    infinite = replace(BASE, name="infinite", knobs={"clip_high": float("inf")})
    silent = replace(BASE, name="silent", mechanism=" ")
    unwise = replace(BASE, name="unwise", plan={"n": 1})
    advice = Opinion(0.0, 1.0, 0.5, False, "its claims contradict each other")
    verdicts = screened([taken, infinite, silent, unwise], [GOOD, GOOD, GOOD, advice], taken=frozenset({"taken"}))
    assert {name: (entry.gate, entry.reason) for name, entry in verdicts.items()} == {
        "taken": (Gate.FORM, "the name taken is taken"),
        "infinite": (Gate.FORM, "knob clip_high is not a finite number"),
        "silent": (Gate.FORM, "no mechanism is stated"),
        "unwise": (Gate.OPINION, "its claims contradict each other"),
    }
    assert all(entry.verdict is Verdict.REJECTED and entry.score == 0.0 for entry in verdicts.values())


def test_novelty_is_measured_against_all_archived_and_journaled_proposals() -> None:
    near = replace(BASE, name="near", mechanism="leave-one-out baseline with a floor", parent="x")
    far = replace(BASE, name="far", mechanism="entropy bonus", priors=("entropy",), family="exploration", parent="x")
    passed = screened([BASE])["rloo-grpo"]
    rejected = passed.rejected_at(Gate.WRITING, "no")
    for past in (ARCHIVED, ProposalHistory().with_screened([rejected]), ProposalHistory().with_screened([passed])):
        scores = {name: entry.scores["novelty"] for name, entry in screened([near, far], past=past).items()}
        assert 0.0 < scores["near"] < scores["far"] == 1.0


def test_another_knob_is_less_novel_than_another_mechanism() -> None:
    tuned = replace(BASE, name="tuned", parent="x", mechanism="weight from 0.2 to 0.3", plan={"n": 1})
    other = replace(BASE, name="other", parent="x", mechanism="optimal baseline", priors=("length",), plan={"n": 2})
    found = screened([tuned, other], past=ARCHIVED)
    assert found["tuned"].scores["novelty"] <= 0.5 < found["other"].scores["novelty"] < 1.0


def test_weights_determine_the_order_and_rejected_proposals_come_last() -> None:
    bold = replace(BASE, name="bold", plan={"n": 1}, mechanism="something else", priors=(), family="other")
    sure = replace(BASE, name="sure", plan={"n": 2})
    worse = replace(BASE, name="worse", plan={"n": 3})
    opinions = [Opinion(0.2, 0.5, 0.9, True, ""), Opinion(1.0, 1.0, 0.5, True, ""), replace(GOOD, accepted=False)]
    names = list(screened([bold, sure, worse], opinions, past=ARCHIVED))
    assert names == ["sure", "bold", "worse"]
    daring = ScreeningWeights(consistency=0.0, feasibility=0.0, novelty=1.0, improvement=1.0)
    assert next(iter(screened([bold, sure, worse], opinions, past=ARCHIVED, weights=daring))) == "bold"


def test_the_score_is_a_weighted_mean() -> None:
    scores = {"consistency": 1.0, "feasibility": 0.5, "novelty": 0.0, "improvement": 0.5}
    weights = ScreeningWeights(consistency=2 / 4, feasibility=1 / 4, novelty=1 / 4, improvement=0.0)
    assert weighted(scores, weights) == pytest.approx(0.625)
    assert weighted(dict.fromkeys(scores, 1.0), ScreeningWeights(consistency=0.01)) == pytest.approx(1.0)


def test_an_opinion_outside_its_range_is_refused() -> None:
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="not between 0 and 1"):
            Opinion(0.5, wrong, 0.5, True, "")


def test_a_verdict_is_read_back_as_written() -> None:
    entry = replace(screened([BASE])["rloo-grpo"], score=0.5, scores={"novelty": 1.0}, attempt=2)
    for each in (entry, replace(entry, verdict=Verdict.CHOSEN), entry.rejected_at(Gate.DUPLICATE, "as grpo")):
        assert Screened.from_data(each.to_data()) == each


def test_a_journal_without_verdicts_is_read() -> None:
    old = {"proposal": BASE.to_data(), "scores": {"promise": 0.5}, "score": 0.5, "rejected": ""}
    assert Screened.from_data(old).verdict is Verdict.PASSED
    refused = Screened.from_data({**old, "rejected": "no mechanism is stated"})
    assert (refused.verdict, refused.reason) == (Verdict.REJECTED, "no mechanism is stated")


def test_the_chosen_proposal_comes_first() -> None:
    first, second = screened([BASE, replace(BASE, name="b", plan={"n": 1})]).values()
    low = replace(second, verdict=Verdict.CHOSEN, score=0.0)
    assert best_first([first, low]) == (low, first)
