from __future__ import annotations

from dataclasses import replace

from poise_git.search.selection.interface import Action, Selection, Survey
from poise_git.search.selection.tree import TreePolicy
from poise_git.settings import SearchSettings
from tests import sentences
from tests.search.selection.conftest import grown, node, survey_of

UNCERTAIN = survey_of(
    node("grpo", 0.5, error=0.05),
    *(node(f"c{place}", 0.5 + 0.01 * place, "grpo", error=0.05) for place in range(6)),
    remaining=3,
)


def select(survey: Survey, **settings: float) -> Selection:
    return TreePolicy(SearchSettings(**settings)).select(survey, 3, seed=4)  # type: ignore[arg-type]


def test_the_last_round_replicates_uncertain_leaders_once() -> None:
    selection = select(UNCERTAIN)
    assert selection.again
    assert "c5" in selection.again
    assert "grpo" not in selection.again
    assert all(choice.action is Action.REEVALUATE for choice in selection.choices if choice.name in selection.again)
    measured = tuple(
        replace(each, seeds=2, error=0.035) if each.name in selection.again else each for each in UNCERTAIN.nodes
    )
    assert len(select(replace(UNCERTAIN, nodes=measured)).again) == 3 - len(selection.again)


def test_no_candidate_is_replicated_before_the_last_round_or_with_little_noise() -> None:
    assert select(replace(UNCERTAIN, remaining=4)).again == ()
    assert select(replace(UNCERTAIN, remaining=None)).again == ()
    certain = tuple(replace(each, error=0.0001) for each in UNCERTAIN.nodes)
    assert select(replace(UNCERTAIN, nodes=certain)).again == ()


def test_a_configured_share_replaces_the_learned_one_and_both_are_reported() -> None:
    survey = grown(30)
    all_reserved = select(survey, exploration_share=1.0)
    assert all(choice.reason.startswith(sentences.EXPLORATION_SLOT) for choice in all_reserved.choices)
    assert f"100% {sentences.EXPLORATION_SHARE}" in all_reserved.remarks[0]
    none = select(survey, exploration_share=0.0)
    assert all(choice.reason.startswith("score") for choice in none.choices)
    assert sentences.EXPLORATION_SHARE in select(survey).remarks[0]


def test_a_candidate_that_violates_a_constraint_is_not_selected_by_score_or_replicated() -> None:
    survey = grown(30)
    best = max(survey.nodes, key=lambda each: each.utility).name
    assert best in {choice.name for choice in select(survey, exploration_share=0.0).choices}
    broken = replace(
        survey, nodes=tuple(replace(each, feasible=False) if each.name == best else each for each in survey.nodes)
    )
    selection = select(broken, exploration_share=0.0)
    assert best not in {choice.name for choice in selection.choices}
    assert selection.ranked[0].node.name != best

    leader = tuple(replace(each, feasible=each.name != "c5") for each in UNCERTAIN.nodes)
    assert "c5" not in select(replace(UNCERTAIN, nodes=leader)).again
    nobody = tuple(replace(each, feasible=False) for each in UNCERTAIN.nodes)
    assert select(replace(UNCERTAIN, nodes=nobody)).again == select(UNCERTAIN).again
