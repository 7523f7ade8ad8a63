"""Stated rules translate directives into objectives; unknown words are reported."""

from __future__ import annotations

from typing import Any

import pytest

from poise_git.agents.library.interpret import CONCEPTS, interpret
from tests import sentences

FIGURES = {
    "composite": 0.2, "reuse": 0.1, "accuracy": 0.3, "overall": 0.19, "mean_length": 12.34, "pass@2": 0.3,
    "pass@16": 0.5, "entropy": 1.5, "kl": 0.01, "valid_rate": 0.8,
}  # fmt: skip
CONCISE = {"weight": 0.3, "direction": "minimize", "scale": 12.0}
NO_LOSS = {"metric": "overall", "at_least": "root"}


def data_of(directive: str) -> dict[str, Any]:
    reading = interpret(directive, FIGURES)
    assert reading.objective is not None, reading
    assert reading.strange == ()
    assert reading.reasons
    return reading.objective.to_data()


@pytest.mark.parametrize(
    "directive", ["accurate and concise", "Correct, short answers!", "strong but brief", "better with fewer tokens",
                  "less verbose and more accurate", "Be as terse as possible.", "no loss of accuracy, shorter"],
)  # fmt: skip
def test_synonyms_give_the_same_objective(directive: str) -> None:
    assert data_of(directive) == {"metrics": {"overall": 1.0, "mean_length": CONCISE}, "constraints": [NO_LOSS]}


@pytest.mark.parametrize(
    ("directive", "constraint"),
    [
        ("accurate, not longer", {"metric": "mean_length", "at_most": "root"}),
        ("more accurate without using more tokens", {"metric": "mean_length", "at_most": "root"}),
        ("accurate but never shorter", {"metric": "mean_length", "at_least": "root"}),
        ("not less diverse", {"metric": "entropy", "at_least": "root"}),
        ("don't lose validity", {"metric": "valid_rate", "at_least": "root"}),
        ("accurate, no collapse", {"metric": "kl", "at_most": "root"}),
    ],
)
def test_a_negation_gives_a_bound_instead_of_a_goal(directive: str, constraint: dict[str, Any]) -> None:
    assert data_of(directive) == {"metrics": {"overall": 1.0}, "constraints": [constraint]}


def test_a_negation_ends_with_its_clause() -> None:
    found = data_of("not longer and more diverse")
    assert found["metrics"].keys() == {"overall", "entropy"}
    assert {"metric": "mean_length", "at_most": "root"} in found["constraints"]
    both = data_of("not longer or less accurate")
    assert {"metric": "mean_length", "at_most": "root"} in both["constraints"]
    assert NO_LOSS in both["constraints"]


@pytest.mark.parametrize(
    ("directive", "figure", "direction"),
    [
        ("explore", "entropy", "maximize"),
        ("stable training", "kl", "minimize"),
        ("high pass@k", "pass@16", "maximize"),
        ("pass@2", "pass@2", "maximize"),
        ("well-formed answers", "valid_rate", "maximize"),
        ("reuse", "reuse", "maximize"),
        ("mean_length", "mean_length", "maximize"),
    ],
)
def test_goals_and_names_of_figures_are_understood(directive: str, figure: str, direction: str) -> None:
    reading = interpret(directive, FIGURES)
    assert reading.objective is not None
    assert reading.objective.metrics[figure].direction == direction
    assert reading.objective.metrics["overall"].weight == 1.0, "accuracy counts in any case"
    assert reading.objective.constraints[0].at_least == "root"


def test_unknown_words_are_reported_and_give_no_objective() -> None:
    reading = interpret("witty, please", FIGURES)
    assert reading.objective is None
    assert reading.strange == ("witty",)
    assert {"concis…", "accura…", "mean_length"} <= set(reading.known)
    partly = interpret("accurate and witty", FIGURES)
    assert partly.objective is not None
    assert partly.strange == ("witty",)


def test_a_figure_without_records_is_reported() -> None:
    reading = interpret("concise", {"overall": 0.2})
    assert reading.objective is None
    assert sentences.ROOT_LACKS_FIGURE.format(figures="mean_length or response_length") in reading.reasons[0]


def test_every_word_has_one_meaning() -> None:
    for concept in CONCEPTS:
        for form in concept.words.split():
            assert [other.name for other in CONCEPTS if other.means(form.rstrip("-"))] == [concept.name], form
