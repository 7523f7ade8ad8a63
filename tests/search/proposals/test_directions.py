from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from poise_git.archive.entries import Direction, Estimate, Proposal
from poise_git.search.context.context import CandidateRecord, Context, Kind
from poise_git.search.proposals.directions import OPEN, DirectionKind, assign_directions, stages_of, weakest_first
from tests import sentences
from tests.agents.library.support import card, coded_cards, context, known, told

EVERY = {edit.stage for each in coded_cards() for edit in each.edits}


def with_figures(of: CandidateRecord, **figures: float) -> CandidateRecord:
    assert of.metrics is not None
    values = {name: Estimate(value, 0.01, 4) for name, value in figures.items()}
    return replace(of, metrics=replace(of.metrics, values=values))


def citing(name: str, *priors: str) -> CandidateRecord:
    family = card(priors[0]).family
    proposal = Proposal(name, "grpo", "m", "h", family, "library", priors=priors)
    found = known(name, proposal=proposal)
    return replace(found, candidate=replace(found.candidate, family=family))


@pytest.mark.parametrize("count", [1, 2, 4, 8, 20])
def test_directions_are_distinct(count: int) -> None:
    of = replace(context(), parent=with_figures(known(), composite=0.2, reuse=0.3))
    for seed in range(20):
        directions = assign_directions(of, count, seed)
        assert len({(each.kind, each.name) for each in directions}) == count
        assert directions == assign_directions(of, count, seed)
        assert all(each.reason for each in directions)
    assert assign_directions(of, count, 1) != assign_directions(of, count, 2)


def test_four_directions_include_all_three_kinds() -> None:
    of = replace(context(), parent=with_figures(known(), composite=0.2, reuse=0.3))
    for seed in range(20):
        kinds = Counter(each.kind for each in assign_directions(of, 4, seed))
        assert set(kinds) == {DirectionKind.STAGE, DirectionKind.FAMILY, DirectionKind.REGIME}
        assert kinds[DirectionKind.REGIME] == 1


def test_names_are_stages_and_families_of_cards() -> None:
    directions = assign_directions(context(), 100, 0)
    assert {each.name for each in directions if each.kind == DirectionKind.STAGE} == EVERY
    assert {each.name for each in directions if each.kind == DirectionKind.FAMILY} == {
        each.family for each in coded_cards()
    }
    assert len(directions) == 100
    assert directions[-1] == OPEN


def test_stages_that_the_lineage_has_not_touched_are_drawn_most() -> None:
    line = (known(), citing("av-grpo", "analytic-variance"), citing("ms-av-grpo", "multi-scale"))
    of = replace(
        context(items=[told(Kind.LINEAGE, each) for each in line]), parent=citing("floor-ms-av-grpo", "scale-floor")
    )
    drawn = Counter(each.name for seed in range(200) for each in assign_directions(of, 2, seed))
    assert drawn["scale"] < drawn["regularizer"] / 3
    assert drawn["normalization"] < drawn["failure"] / 3
    scale = next(each for each in assign_directions(of, 100, 0) if each.name == "scale")
    assert scale.reason == sentences.LINEAGE_CHANGED_STAGE.format(times=3)


def test_a_directive_favors_directions_that_match_it() -> None:
    def share(of: Context) -> float:
        drawn = Counter(each.name for seed in range(200) for each in assign_directions(of, 2, seed))
        return drawn["efficiency"] / drawn.total()

    assert share(context(directive="concise")) > 2 * share(context())


def test_a_family_is_skipped_if_all_its_stages_are_taken() -> None:
    only = tuple(each for each in coded_cards() if stages_of(each) <= {"token_objective", "regularizer"})
    regularization = next(each for each in only if each.family == "regularization")
    for seed in range(20):
        names = {each.name for each in assign_directions(context(of=only), 2, seed)}
        assert names != {*stages_of(regularization), "regularization"}


def test_the_regime_is_furthest_below_the_best_candidate_in_the_context() -> None:
    parent = with_figures(known("mine"), composite=0.20, reuse=0.30, length=0.10)
    near = with_figures(known("near"), composite=0.21, reuse=0.29, length=0.09)
    far = with_figures(known("far"), composite=0.19, reuse=0.36, length=0.09)
    of = replace(context(items=[told(Kind.PARETO, each) for each in (near, far)]), parent=parent)
    assert [each.name for each in weakest_first(of)] == ["reuse", "composite", "length"]
    assert weakest_first(of)[0].reason == sentences.FURTHEST_BELOW.format(value=0.3, leader="far", best=0.36)


def test_a_regime_without_weight_in_the_objective_gives_no_direction() -> None:
    parent = with_figures(known("mine"), composite=0.20, reuse=0.30, length=0.10)
    far = with_figures(known("far"), composite=0.21, reuse=0.36, length=0.09)
    of = replace(context(items=[told(Kind.PARETO, far)]), parent=parent, unweighted=frozenset(("reuse",)))
    assert [each.name for each in weakest_first(of)] == ["composite", "length"]


def test_a_single_figure_or_missing_metrics_give_no_regime() -> None:
    assert weakest_first(replace(context(), parent=with_figures(known(), overall=0.2))) == []
    assert weakest_first(replace(context(), parent=replace(known(), metrics=None))) == []


def test_without_literature_directions_are_open() -> None:
    assert assign_directions(context(of=()), 3, 0) == (OPEN,) * 3


def test_a_direction_is_kept_in_the_proposal() -> None:
    proposal = Proposal("a", "grpo", "m", "h", "f", "library")
    sent = replace(proposal, direction=Direction(DirectionKind.STAGE, "scale", "why", departure="nothing is left"))
    assert Proposal.from_data(sent.to_data()) == sent
    assert "direction" not in proposal.to_data()
    assert Proposal.from_data(proposal.to_data()).direction is None
