from __future__ import annotations

import math
import warnings

import pytest

from poise_git.search.selection import POLICIES
from poise_git.search.selection.descendant_potential import descendant_gain, predict_potential
from poise_git.search.selection.interface import Survey
from poise_git.search.selection.paper import utility_scale
from poise_git.settings import SearchSettings
from tests.search.selection.conftest import grown, node, survey_of


def test_descendant_gain_matches_the_calculation_by_hand() -> None:
    survey = survey_of(node("root", 0.0), node("a", 1.0, "root"), node("b", -1.0, "root"), node("c", 3.0, "b"))
    labels = descendant_gain(survey, gamma=0.85, beta=2.0, top=2)
    c_from_root = 0.85**2 * math.tanh(1.5)
    a_from_root = 0.85 * math.tanh(0.5)
    assert labels["root"].value == pytest.approx((c_from_root + a_from_root) / 2)
    assert labels["root"].descendants == 3
    assert labels["b"].value == pytest.approx(0.85 * math.tanh(2.0))
    assert labels.keys() == {"root", "b"}, "a childless node has no label, not the label 0"


def test_the_noise_of_a_label_falls_with_its_descendants_and_rises_with_the_errors() -> None:
    few = survey_of(node("root", 0.0), node("a", 1.0, "root"))
    many = survey_of(node("root", 0.0), *(node(name, 1.0, "root") for name in "abc"))
    loud = survey_of(node("root", 0.0, error=0.5), node("a", 1.0, "root", error=0.5))
    variances = [descendant_gain(survey, gamma=0.85, beta=1.0, top=3)["root"].variance for survey in (few, many, loud)]
    assert variances[1] < variances[0] < variances[2]


def test_a_crossover_counts_for_both_parents_by_the_shorter_path() -> None:
    survey = survey_of(
        node("root", 0.0), node("a", 0.0, "root"), node("b", 0.0, "a"), node("c", 1.0, "b", "root", depth=3)
    )
    labels = descendant_gain(survey, gamma=0.5, beta=1.0, top=1)
    assert labels["root"].value == pytest.approx(0.5 * math.tanh(1.0))
    assert labels["a"].value == pytest.approx(0.25 * math.tanh(1.0))


def test_the_model_is_used_once_enough_nodes_have_descendants() -> None:
    chain = [node(f"n{i}", 0.1 * i, *([f"n{i - 1}"] if i else []), depth=i) for i in range(9)]
    policy = POLICIES["paper"](SearchSettings(bayes_after=6))
    assert all(entry.terms.bayes is not None for entry in policy.select(survey_of(*chain), 3, 0).ranked)
    assert all(entry.terms.bayes is None for entry in policy.select(survey_of(*chain[:6]), 3, 0).ranked)


def test_a_selected_node_reduces_its_deviation_and_increases_none() -> None:
    survey = grown(64)
    potential = predict_potential(survey, descendant_gain(survey, gamma=0.85, beta=0.05, top=3))
    before, after = potential.deviation([]), potential.deviation([10])
    assert after[10] < before[10]
    assert (after <= before + 1e-9).all()


def test_held_out_lineages_are_predicted_as_if_never_fitted() -> None:
    """The closed form against scikit-learn's own process, fitted without each lineage."""
    import numpy as np
    from sklearn.gaussian_process import GaussianProcessRegressor

    from poise_git.search.selection.descendant_potential import _foresight, lineages

    survey = grown(64, seed=3)
    labels = descendant_gain(survey, gamma=0.85, beta=0.05, top=3)
    potential = predict_potential(survey, labels)
    rows = np.array([survey.place[name] for name in labels])
    values = np.array([label.value for label in labels.values()])
    values = (values - values.mean()) / values.std()
    kernel, noise = potential.kernel.kernel, 0.3
    covariance = kernel(potential.features[rows]) + noise * np.eye(len(rows))
    found = _foresight(survey, list(labels), covariance, values)
    lines = np.array(lineages(survey))[rows]
    predicted = np.zeros(len(rows))
    for line in set(lines):
        rest = lines != line
        process = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None)
        process.fit(potential.features[rows[rest]], values[rest])
        predicted[~rest] = process.predict(potential.features[rows[~rest]])
    from scipy.stats import spearmanr

    assert found.correlation == pytest.approx(spearmanr(predicted, values).statistic)


def test_an_empty_archive_has_a_scale_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert utility_scale(Survey((), {})) > 0
