"""The data file of published comparisons: every entry is well formed and agrees with itself."""

from __future__ import annotations

import pytest
from published_comparisons import Comparison, effects_by_study, published

STRENGTHS = {"weak": (0.0, 0.15), "medium": (0.15, 0.40), "capable": (0.40, 1.0)}


def test_an_effect_is_the_difference_of_its_values() -> None:
    for each in published():
        if each.value is not None and each.baseline_value is not None:
            assert each.effect == pytest.approx(each.value - each.baseline_value, abs=0.06), each


def test_a_strength_agrees_with_the_accuracy_of_the_base() -> None:
    for each in published():
        if each.base_accuracy is not None and each.base_strength != "unknown":
            low, high = STRENGTHS[each.base_strength]
            assert low <= each.base_accuracy <= high, each


def test_no_comparison_occurs_twice() -> None:
    keys = [
        (each.mechanism, each.against, each.study, each.model, each.task, each.metric, each.where, each.effect)
        for each in published()
    ]
    assert len(keys) == len(set(keys))


def test_a_study_counts_once_and_own_papers_do_not_count() -> None:
    def comparison(study: str, effect: float, kind: str = "independent", against: str = "GRPO") -> Comparison:
        return Comparison.model_validate(
            {"mechanism": "no-std", "against": against, "study": study, "base_strength": "weak", "effect": effect,
             "off_policyness": "mild", "kind": kind, "source": "arXiv 0000.00000", "read": "source"}
        )  # fmt: skip

    found = effects_by_study(
        [comparison("a", 1.0), comparison("a", 3.0), comparison("b", -1.0), comparison("c", 9.0, "own-paper"),
         comparison("d", 9.0, against="DAPO")]
    )  # fmt: skip
    assert found == {("no-std", "weak"): {"a": 2.0, "b": -1.0}}
