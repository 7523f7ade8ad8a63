from __future__ import annotations

import math

import pytest

from poise_git.search.acquisition import Node, choose_parents, rank
from poise_git.search.pareto import front_ranks
from poise_git.search.potential import descendant_gain
from poise_git.settings import AcquisitionWeights, SearchSettings


def node(name: str, utility: float, *parents: str, words: str = "", depth: int = 0) -> Node:
    return Node(name, parents, utility, (utility,), frozenset(words.split()), depth)


def test_fronts_of_non_dominated_sorting() -> None:
    vectors = {"a": (1.0, 5.0), "b": (5.0, 1.0), "c": (1.0, 1.0), "d": (0.0, 0.0), "e": (1.0, 5.0)}
    assert front_ranks(vectors) == {"a": 0, "b": 0, "e": 0, "c": 1, "d": 2}


def test_descendant_gain_by_hand() -> None:
    utility = {"root": 0.0, "a": 1.0, "b": -1.0, "c": 3.0}
    parents = {"a": ["root"], "b": ["root"], "c": ["b"]}
    labels = descendant_gain(utility, parents, gamma=0.85, beta=2.0, top=2)
    c_from_root = 0.85**2 * math.tanh(1.5)
    a_from_root = 0.85 * math.tanh(0.5)
    assert labels["root"] == pytest.approx((c_from_root + a_from_root) / 2)
    assert labels["b"] == pytest.approx(0.85 * math.tanh(2.0))
    assert "a" not in labels, "a childless node has no label, not the label 0"
    assert "c" not in labels


def test_score_is_the_weighted_mean_of_the_terms_that_take_part() -> None:
    settings = SearchSettings(weights=AcquisitionWeights(pareto=0.5, perf=0.25, div=0.25, bayes=0.9))
    nodes = [node("root", 0.0), node("a", 1.0, "root", words="x")]
    by_name = {entry.node.name: entry for entry in rank(nodes, settings, beta=1.0)}
    assert by_name["a"].terms.bayes is None
    assert by_name["a"].terms.pareto == 1.0
    assert by_name["root"].terms.pareto == 0.5
    assert by_name["a"].score == pytest.approx(0.5 * 1 + 0.25 * 1 + 0.25 * 1)
    assert by_name["root"].score == pytest.approx(0.5 * 0.5 + 0.25 * 0 + 0.25 * (1 / 2))


def test_bayes_takes_part_once_enough_nodes_have_descendants() -> None:
    chain = [node("n0", 0.0)] + [node(f"n{i}", 0.1 * i, f"n{i - 1}", depth=i) for i in range(1, 9)]
    settings = SearchSettings(bayes_after=6)
    assert all(entry.terms.bayes is not None for entry in rank(chain, settings, beta=0.2))
    assert all(entry.terms.bayes is None for entry in rank(chain[:6], settings, beta=0.2))


def test_first_round_takes_the_root_for_every_slot() -> None:
    chosen = choose_parents(rank([node("grpo", 0.5)], SearchSettings(), 1.0), SearchSettings(parents=3), seed=1)
    assert [choice.name for choice in chosen] == ["grpo"] * 3


def test_no_parent_and_child_in_one_round_while_there_is_a_choice() -> None:
    nodes = [node("grpo", 0.0), node("a", 1.0, "grpo"), node("b", 0.9, "a"), node("c", 0.2, "grpo")]
    settings = SearchSettings(parents=2, reserved_slots=0)
    chosen = [choice.name for choice in choose_parents(rank(nodes, settings, 1.0), settings, seed=0)]
    related = {("a", "b"), ("b", "a"), ("grpo", "a"), ("a", "grpo"), ("grpo", "c"), ("c", "grpo")}
    assert tuple(chosen) not in related


def test_reserved_slot_goes_to_a_node_with_fewest_children_whatever_its_score() -> None:
    nodes = [node("grpo", 1.0), node("best", 2.0, "grpo"), node("dud", -5.0, "grpo"), node("child", 1.9, "best")]
    settings = SearchSettings(parents=2, reserved_slots=1)
    seen = {choose_parents(rank(nodes, settings, 1.0), settings, seed=seed)[-1].name for seed in range(40)}
    assert seen == {"dud", "child"}


def test_choice_is_seeded() -> None:
    nodes = [node("grpo", 1.0)] + [node(f"c{i}", 0.1 * i, "grpo") for i in range(8)]
    ranked = rank(nodes, SearchSettings(), 1.0)
    assert choose_parents(ranked, SearchSettings(), 5) == choose_parents(ranked, SearchSettings(), 5)
