"""S1 to S4 of `Policy`, for every policy, on archives of all sizes; nothing here touches git or the network."""

from __future__ import annotations

import dataclasses

import pytest

from poise_git.search.selection import POLICIES
from poise_git.search.selection.interface import Survey
from poise_git.settings import SearchSettings
from tests.search.selection.conftest import grown, node, survey_of

SURVEYS = {
    "the root alone": survey_of(node("grpo", 0.5)),
    "two": survey_of(node("grpo", 0.5), node("a", 0.5, "grpo")),
    "all equal": survey_of(*(node(f"n{i}", 0.5, *([f"n{i - 1}"] if i else []), depth=i) for i in range(8))),
    "no noise": survey_of(*(node(f"n{i}", i / 9, *(["n0"] if i else []), error=0.0) for i in range(9))),
    "a chain": survey_of(*(node(f"n{i}", i / 99, *([f"n{i - 1}"] if i else []), depth=i) for i in range(30))),
    "sixty-four": grown(64),
    "three hundred": grown(300, seed=1),
}
CASES = [(policy, name) for policy in POLICIES for name in SURVEYS]


@pytest.mark.parametrize(("policy", "name"), CASES)
def test_s1_a_policy_chooses_the_requested_number_of_existing_nodes(policy: str, name: str) -> None:
    survey = SURVEYS[name]
    for count in (1, 3, 5):
        choices = POLICIES[policy](SearchSettings()).select(survey, count, seed=1).choices
        assert len(choices) == count
        assert {choice.name for choice in choices} <= {each.name for each in survey.nodes}


@pytest.mark.parametrize(("policy", "name"), CASES)
def test_s2_the_same_input_gives_the_same_selection(policy: str, name: str) -> None:
    first, second = (POLICIES[policy](SearchSettings()).select(SURVEYS[name], 3, seed=5) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("policy", "name"), CASES)
def test_s3_no_node_is_chosen_twice_while_others_remain(policy: str, name: str) -> None:
    survey = SURVEYS[name]
    for seed in range(5):
        names = [choice.name for choice in POLICIES[policy](SearchSettings()).select(survey, 3, seed).choices]
        assert len(set(names)) == min(3, len(survey.nodes))


def test_paper_selects_no_node_with_its_child_while_others_remain() -> None:
    survey = survey_of(node("grpo", 0.0), node("a", 1.0, "grpo"), node("b", 0.99, "a"), node("c", 0.2, "grpo"))
    names = {choice.name for choice in POLICIES["paper"](SearchSettings()).select(survey, 2, seed=0).choices}
    assert names not in ({"a", "b"}, {"grpo", "a"}, {"grpo", "c"})


@pytest.mark.parametrize(("policy", "name"), CASES)
def test_s4_every_node_is_ranked_once_with_terms_between_0_and_1(policy: str, name: str) -> None:
    survey = SURVEYS[name]
    ranked = POLICIES[policy](SearchSettings()).select(survey, 3, seed=1).ranked
    assert sorted(entry.node.name for entry in ranked) == sorted(each.name for each in survey.nodes)
    for entry in ranked:
        for value in dataclasses.astuple(entry.terms):
            assert value is None or 0.0 <= value <= 1.0
    assert [entry.score for entry in ranked] == sorted((entry.score for entry in ranked), reverse=True)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_diverged_node_does_not_flatten_the_others(policy: str) -> None:
    def spread(survey: Survey) -> float:
        ranked = POLICIES[policy](SearchSettings()).select(survey, 3, seed=1).ranked
        perf = sorted(entry.terms.perf for entry in ranked)
        return perf[-1] - perf[len(perf) // 4]

    sound = grown(40, seed=2)
    assert sound.nodes[7].utility == -40.0
    assert spread(sound) > 0.3
