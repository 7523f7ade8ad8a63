from __future__ import annotations

import pytest

from poise_git.archive.entries import Run, Status
from poise_git.errors import UsageError
from poise_git.search.utility import objective_weights, summarise, utility


def run(seed: int, a: float, b: float) -> Run:
    return Run("h", seed, {"a": a, "b": b}, {"a": {"acc@1": a}, "b": {"acc@1": b}}, {}, (), 2.0)


def test_utility_is_the_weighted_sum() -> None:
    assert utility({"a": 1.0, "b": 0.5}, {"a": 0.25, "b": 0.75}) == pytest.approx(0.625)


def test_objective_replaces_the_suites_weights_and_is_normalised() -> None:
    suites = {"a": 0.5, "b": 0.5}
    assert objective_weights(suites, {}) == suites
    assert objective_weights(suites, {"a": 3.0, "b": 1.0}) == {"a": 0.75, "b": 0.25}
    with pytest.raises(UsageError, match=r"objective.c: .* it has a, b"):
        objective_weights(suites, {"c": 1.0})
    with pytest.raises(UsageError, match="positive"):
        objective_weights(suites, {"a": 0.0})


def test_gain_is_paired_with_the_root_by_seed() -> None:
    weights = {"a": 0.5, "b": 0.5}
    runs, root = [run(0, 0.2, 0.4), run(1, 0.6, 0.8)], [run(0, 0.1, 0.3), run(1, 0.5, 0.7)]
    metrics = summarise("h", runs, root, weights)
    assert metrics.status is Status.EVALUATED
    assert metrics.utility is not None
    assert metrics.utility.value == pytest.approx(0.5)
    assert metrics.gain is not None
    assert metrics.gain.value == pytest.approx(0.1)
    assert metrics.gain.se == pytest.approx(0.0, abs=1e-12)
    assert metrics.values["a"].value == pytest.approx(0.4)
    assert metrics.cpu_seconds == 4.0
    assert summarise("h", root, None, weights).gain is None
