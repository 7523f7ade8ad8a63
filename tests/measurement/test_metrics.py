from __future__ import annotations

import math
from typing import Any

import pytest

from poise_git.archive.entries import Run, Status
from poise_git.errors import RunFailed
from poise_git.measurement.metrics import MEASURING, summarize
from poise_git.measurement.objective import Objective
from poise_git.settings import ObjectiveSettings

SUITES = {"a": 0.5, "b": 0.5}


def run(seed: int, a: float, b: float, length: float = 10.0) -> Run:
    details = {"a": {"acc@1": a, "mean_length": length}, "b": {"acc@1": b, "mean_length": length + 2.0}}
    return Run("h", seed, {"a": a, "b": b}, details, {}, (), 2.0)


def objective(**data: Any) -> Objective:
    return Objective(SUITES, ObjectiveSettings.model_validate(data))


def test_gain_is_paired_with_the_root_by_seed() -> None:
    runs, root = [run(0, 0.2, 0.4), run(1, 0.6, 0.8)], [run(0, 0.1, 0.3), run(1, 0.5, 0.7)]
    metrics = summarize("h", runs, root, objective())
    assert metrics.status is Status.EVALUATED
    assert metrics.utility is not None
    assert metrics.utility.value == pytest.approx(0.5)
    assert metrics.gain is not None
    assert metrics.gain.value == pytest.approx(0.1)
    assert metrics.gain.se == pytest.approx(0.0, abs=1e-12)
    assert metrics.values["a"].value == pytest.approx(0.4)
    assert metrics.values.keys() == {"a", "b"}
    assert metrics.cpu_seconds == 4.0
    assert metrics.violations == ()
    assert summarize("h", root, None, objective()).gain is None


def test_every_other_metric_of_the_objective_has_its_own_error() -> None:
    runs, root = [run(0, 0.2, 0.4, 9.0), run(1, 0.6, 0.8, 5.0)], [run(0, 0.1, 0.3), run(1, 0.5, 0.7)]
    shorter = objective(metrics={"overall": 1, "mean_length": {"weight": 1, "direction": "minimize", "scale": 10}})
    metrics = summarize("h", runs, root, shorter)
    assert metrics.values.keys() == {"a", "b"}
    assert metrics.further.keys() == {"mean_length"}
    assert metrics.further["mean_length"].value == pytest.approx(8.0)
    assert metrics.further["mean_length"].se == pytest.approx(2.0)
    assert metrics.utility is not None
    assert metrics.gain is not None
    assert metrics.utility.value == pytest.approx(0.5 * 0.5 - 0.05 * 8.0)
    # Seed by seed 0.5 * 0.1 + 0.05 * (1, 5).
    assert metrics.gain.value == pytest.approx(0.05 + 0.05 * 3.0)
    assert metrics.gain.se == pytest.approx(0.05 * 2.0)
    assert metrics.objective == shorter.fingerprint


def test_violations_are_part_of_the_metrics_and_the_root_meets_its_own_figures() -> None:
    bounded = objective(
        constraints=[{"metric": "overall", "at_least": "root"}, {"metric": "mean_length", "at_most": 5}]
    )
    worse = [run(0, 0.1, 0.2), run(1, 0.2, 0.31)]
    root = [run(0, 0.2, 0.4), run(1, 0.3, 0.5)]
    assert [each.constraint for each in summarize("h", worse, root, bounded).violations] == [
        "overall at least grpo's",
        "mean_length at most 5",
    ]
    assert [each.metric for each in summarize("h", root, None, bounded).violations] == ["mean_length"]


@pytest.mark.parametrize(
    "needed", [{"metrics": {"mean_length": 1}}, {"constraints": [{"metric": "mean_length", "at_most": 1}]}]
)
def test_a_run_without_a_required_finite_figure_fails_and_names_it(needed: dict[str, Any]) -> None:
    runs = [run(0, 0.2, 0.4), run(1, 0.2, 0.4, math.nan)]
    assert summarize("h", runs, None, objective()).utility is not None
    with pytest.raises(RunFailed, match=f"{MEASURING} failed: .*seed 1.* mean_length"):
        summarize("h", runs, None, objective(**needed))


def test_a_replication_gives_a_more_certain_gain_and_a_consistent_utility() -> None:
    runs, root = [run(0, 0.3, 0.3), run(1, 0.6, 0.6)], [run(0, 0.2, 0.2), run(1, 0.4, 0.4)]
    # In the worlds of the further seeds all utilities are higher, and the candidate is no better than the root.
    again = [run(10, 0.9, 0.9), run(11, 0.9, 0.9)], [run(10, 0.9, 0.9), run(11, 0.9, 0.9)]
    metrics = summarize("h", runs, root, objective(), again=again)
    assert metrics.gain is not None
    assert metrics.gain.n == 4
    assert metrics.gain.value == pytest.approx((0.1 + 0.2 + 0.0 + 0.0) / 4)
    assert metrics.utility is not None
    assert metrics.utility.value == pytest.approx(0.3 + metrics.gain.value)
    assert metrics.values["a"].value == pytest.approx(0.3 + metrics.gain.value)
    assert metrics.values["a"].n == 4
    assert metrics.seeds == (0, 1, 10, 11)
    # Without the root's runs on these seeds no difference can be computed.
    assert (
        summarize("h", runs, root, objective(), again=(again[0], [])).utility
        == summarize("h", runs, root, objective()).utility
    )


def test_a_replicated_utility_is_the_sum_of_the_shown_values_and_constraints_use_every_seed() -> None:
    by_length = objective(
        metrics={"a": {"weight": 3}, "mean_length": {"direction": "minimize", "scale": 20}},
        constraints=[{"metric": "mean_length", "at_most": "root", "slack": 0}],
    )
    runs, root = [run(0, 0.3, 0.3, 9.0), run(1, 0.6, 0.6, 7.0)], [run(0, 0.2, 0.2, 8.0), run(1, 0.4, 0.4, 9.0)]
    again = [run(10, 0.9, 0.1, 12.0), run(11, 0.7, 0.2, 13.0)], [run(10, 0.9, 0.2, 10.0), run(11, 0.4, 0.1, 11.0)]
    once, metrics = (summarize("h", runs, root, by_length, again=more) for more in (((), ()), again))
    assert not once.violations
    assert [violation.excess.value for violation in metrics.violations] == [pytest.approx((1 - 2 + 2 + 2) / 4)]
    assert metrics.utility is not None
    assert metrics.utility.value == pytest.approx(
        0.75 * metrics.values["a"].value - 0.25 * metrics.further["mean_length"].value / 20
    )
    assert metrics.further["mean_length"].value == pytest.approx(9.5 + 0.75)
