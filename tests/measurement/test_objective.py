from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from poise_git.archive.entries import Run
from poise_git.measurement.figures import figures
from poise_git.measurement.objective import Objective
from poise_git.settings import ObjectiveSettings

SUITES = {"a": 0.25, "b": 0.75}
LENGTH = {"weight": 0.3, "direction": "minimize", "scale": 10}
SEEDS = (0, 1, 2)

terms = st.one_of(
    st.floats(0.1, 10.0),
    st.fixed_dictionaries(
        {"weight": st.floats(0.1, 10.0)},
        optional={"direction": st.sampled_from(["maximize", "minimize"]), "scale": st.floats(0.1, 100.0)},
    ),
)
bounds = st.one_of(st.just("root"), st.floats(-10.0, 10.0))
constraints = st.fixed_dictionaries(
    {"metric": st.sampled_from(["a", "overall", "mean_length"])}, optional={"slack": st.floats(0.0, 3.0)}
).flatmap(
    lambda constraint: st.tuples(st.sampled_from(["at_least", "at_most"]), bounds).map(
        lambda bound: {**constraint, bound[0]: bound[1]}
    )
)
objectives = st.builds(
    lambda metrics, bounded: objective(metrics=metrics, constraints=bounded),
    st.dictionaries(st.sampled_from(["a", "b", "overall", "mean_length", "entropy"]), terms),
    st.lists(constraints, max_size=3),
)


def objective(**data: Any) -> Objective:
    return Objective(SUITES, ObjectiveSettings.model_validate(data))


def run(seed: int, **values: float) -> Run:
    length = values.pop("mean_length", 10.0)
    return Run("h", seed, values, {suite: {"mean_length": length} for suite in values}, {}, (), 1.0)


def test_utility_without_metrics_is_the_mean_of_the_protocol() -> None:
    assert objective().coefficients == {"overall": 1.0}
    assert objective().utilities(figures([run(7, a=1.0, b=0.5)], SUITES)) == {7: pytest.approx(0.625)}
    assert objective().is_overall
    assert objective(metrics={"a": 1, "b": 3}).is_overall
    assert objective(metrics={"a": 1, "b": 3}, constraints=[{"metric": "a", "at_least": 0.1}]).is_overall
    for other in ({"a": 3, "b": 1}, {"overall": {"scale": 2}}, {"overall": 1, "mean_length": 1}):
        assert not objective(metrics=other).is_overall


def test_coefficients_are_signed_scaled_and_share_the_weight() -> None:
    found = objective(metrics={"overall": 1, "mean_length": LENGTH})
    assert found.coefficients == {"overall": pytest.approx(1 / 1.3), "mean_length": pytest.approx(-0.03 / 1.3)}
    assert found.of_suites is None
    assert objective(metrics={"overall": 1, "a": 1}).of_suites == {"a": 0.625, "b": 0.375}


@pytest.mark.parametrize(
    ("metrics", "unweighted"),
    [({}, {"b"}), ({"b": 1}, {"a"}), ({"b/entropy": 1}, {"a"}), ({"overall": 1, "b": 1}, set())],
)
def test_suites_without_a_part_in_utility(metrics: dict[str, float], unweighted: set[str]) -> None:
    found = Objective({"a": 1.0, "b": 0.0}, ObjectiveSettings.model_validate({"metrics": metrics}))
    assert found.unweighted == unweighted


@given(objectives, st.dictionaries(st.sampled_from(SEEDS), st.tuples(*[st.floats(-10, 10)] * 5), min_size=1))
def test_utility_is_linear_in_differences(found: Objective, rows: dict[int, tuple[float, ...]]) -> None:
    names = ("a", "b", "overall", "mean_length", "entropy")
    table = {name: {seed: row[place] for seed, row in rows.items()} for place, name in enumerate(names)}
    mean = {name: math.fsum(column.values()) / len(column) for name, column in table.items()}
    of = found.utilities(table)
    assert of.keys() == rows.keys()
    assert math.fsum(of.values()) / len(of) == pytest.approx(found.utility(mean), abs=1e-9)


def test_seeds_without_a_metric_have_no_utility() -> None:
    runs = [run(0, a=0.1, b=0.2), run(1, a=0.1, b=0.2, mean_length=math.nan)]
    assert objective(metrics={"overall": 1, "mean_length": 1}).figures(runs)["utility"].keys() == {0}
    assert objective().figures(runs)["utility"].keys() == {0, 1}


def test_an_objective_can_use_a_figure_of_one_suite() -> None:
    """It does not change the figures over all suites, and it adds no figure that the objective does not use."""
    of_one = Run(
        "h", 0, {"a": 0.5, "b": 0.1}, {"a": {"pass@8": 0.75}, "b": {"pass@8": 0.25}}, {"a/entropy": (0.2, 0.4)}, (), 1.0
    )
    table = objective(metrics={"a/pass@8": 1, "a/entropy": {"direction": "minimize"}}).figures([of_one])
    assert table["a/pass@8"] == {0: 0.75}
    assert table["a/entropy"] == {0: pytest.approx(0.3)}
    assert table["utility"] == {0: pytest.approx((0.75 - 0.3) / 2)}
    assert table["pass@8"] == {0: 0.5}
    assert "b/pass@8" not in table
    assert not objective(metrics={"c/pass@8": 1}).figures([of_one])["utility"]


@given(objectives)
def test_an_objective_is_read_back_from_its_data_and_from_yaml(found: Objective) -> None:
    again = objective(**found.stated.to_data())
    assert again.fingerprint == found.fingerprint
    assert again.coefficients == found.coefficients
    assert objective(**yaml.safe_load(yaml.safe_dump(found.stated.to_data()))) == again


def test_the_yaml_block_is_concise() -> None:
    found = objective(
        metrics={"overall": 1, "mean_length": LENGTH},
        constraints=[{"metric": "overall", "at_least": "root"}, {"metric": "mean_length", "at_most": 12.5, "slack": 2}],
    )
    assert found.stated.to_data() == {
        "metrics": {"overall": 1.0, "mean_length": {"weight": 0.3, "direction": "minimize", "scale": 10.0}},
        "constraints": [
            {"metric": "overall", "at_least": "root"},
            {"metric": "mean_length", "at_most": 12.5, "slack": 2.0},
        ],
    }
    assert found.description == (
        "maximize overall, minimize mean_length (weight 0.3, scale 10), "
        "keep overall at least grpo's (slack 1 s.e.), keep mean_length at most 12.5 (slack 2 s.e.)"
    )


def test_the_fingerprint_distinguishes_objectives_by_their_effect() -> None:
    plain = objective().fingerprint
    assert objective(metrics={"overall": 5}).fingerprint == plain
    assert objective(metrics={"a": 1, "b": 2}).fingerprint == objective(metrics={"b": 4, "a": 2}).fingerprint
    bound = {"metric": "a", "at_least": "root"}
    others = [
        objective(metrics={"a": 1}),
        objective(metrics={"overall": {"scale": 2}}),
        objective(metrics={"overall": {"direction": "minimize"}}),
        objective(constraints=[bound]),
        objective(constraints=[{**bound, "slack": 2}]),
        objective(constraints=[{"metric": "a", "at_most": "root"}]),
    ]
    assert len({plain, *(other.fingerprint for other in others)}) == 1 + len(others)


def violated(own: list[float], root: list[float] | None, **constraint: Any) -> bool:
    runs = [run(seed, a=value, b=value) for seed, value in enumerate(own)]
    against = None if root is None else figures([run(seed, a=v, b=v) for seed, v in enumerate(root)], SUITES)
    return bool(objective(constraints=[{"metric": "a", **constraint}]).violations(figures(runs, SUITES), against))


def test_the_paired_difference_decides_a_root_bound() -> None:
    # Worlds differ much more than candidates: only pairing shows that each seed is .1 (± .01) below.
    root, below = [0.1, 0.5, 0.9], [0.01, 0.4, 0.79]
    assert violated(below, root, at_least="root")
    assert violated(below, root, at_least="root", slack=2)
    assert violated(root, below, at_most="root")
    assert not violated(root, below, at_least="root")
    assert not violated(root, root, at_least="root", slack=0)
    assert not violated(below, None, at_least="root")


def test_slack_is_in_standard_errors() -> None:
    # A mean difference of -.02 with a standard error of .01.
    root = [0.5, 0.5, 0.5, 0.5]
    below = [0.5 - 0.02 + 0.02 * math.sqrt(3) / 2 * sign for sign in (1, 1, -1, -1)]
    for slack, expected in ((0, True), (1, True), (1.9, True), (2.1, False)):
        assert violated(below, root, at_least="root", slack=slack) is expected
        assert violated(below, None, at_least=0.5, slack=slack) is expected
        assert violated([1 - value for value in below], None, at_most=0.5, slack=slack) is expected


def test_one_seed_has_no_error_and_the_estimate_decides() -> None:
    assert violated([0.49], [0.5], at_least="root", slack=5)
    assert not violated([0.5], [0.5], at_least="root")
    assert violated([0.51], None, at_most=0.5, slack=5)


def test_a_violation_states_its_amount() -> None:
    runs = [run(seed, a=0.5, b=0.5, mean_length=12.0 + seed) for seed in SEEDS]
    (found,) = objective(constraints=[{"metric": "mean_length", "at_most": 10}]).violations(figures(runs, SUITES), None)
    assert (found.constraint, found.excess.value) == ("mean_length at most 10", pytest.approx(3.0))


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"metrics": {"a": -1}}, "weight"),
        ({"metrics": {"a": 0, "b": {"weight": 0}}}, "the weights must sum"),
        ({"metrics": {"a": {"scale": 0}}}, "scale"),
        ({"metrics": {"a": {"direction": "up"}}}, "direction"),
        ({"metrics": {"a": {"wieght": 1}}}, "wieght"),
        ({"constraints": [{"metric": "a"}]}, "needs one bound"),
        ({"constraints": [{"metric": "a", "at_least": 1, "at_most": 2}]}, "needs one bound"),
        ({"constraints": [{"metric": "a", "at_least": "parent"}]}, "or root"),
        ({"constraints": [{"metric": "a", "at_least": True}]}, "or root"),
        ({"constraints": [{"metric": "a", "at_least": 1, "slack": -1}]}, "slack"),
        ({"constraints": [{"at_least": 1}]}, "metric"),
    ],
)
def test_an_invalid_objective_is_refused(data: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        objective(**data)


def test_earlier_spellings_of_the_direction_are_read() -> None:
    british, american = (objective(metrics={"mean_length": {"direction": word}}) for word in ("minimise", "minimize"))
    assert british == american
