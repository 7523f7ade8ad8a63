"""The predictions agree with the data that they rest on, and agreement is counted by the stated rule."""

from __future__ import annotations

import statistics
from collections import Counter

import numpy as np
import pytest
from calibration import KINDS, TEMPLATE
from calibration_runs import Record
from external_validity import (
    Compared,
    Conditions,
    Direction,
    Prediction,
    Runs,
    compare,
    predictions,
    report,
    study_effects,
)
from published_comparisons import published

from poise_git.pipeline.backends.testbed.backend import TestbedBackend
from poise_git.pipeline.backends.testbed.settings import parse_settings
from poise_git.pipeline.protocol import Protocol, load_protocol

FILE = TEMPLATE / "protocols" / "testbed.yaml"


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return load_protocol(FILE.read_text(encoding="utf-8"), FILE.name)


def test_an_expected_direction_is_that_of_the_published_effects() -> None:
    resting = [each for each in predictions() if each.published is not None]
    assert len(resting) > 12
    for each in resting:
        assert each.mechanism is not None
        assert each.published is not None
        effects = study_effects(each.mechanism, each.published, published()).values()
        assert Direction.of(statistics.median(effects)) is each.expected, each


def test_twelve_mechanisms_count_and_half_of_them_are_for_choosing() -> None:
    counted = [each for each in predictions() if each.counts]
    assert Counter(each.half for each in counted) == {"choice": 6, "report": 6}
    assert len({each.mechanism for each in counted}) == 12
    halves: dict[str, set[str]] = {}
    for each in predictions():
        halves.setdefault(each.algorithm, set()).add(each.half)
    assert all(len(found) == 1 for found in halves.values())


def test_every_prediction_names_a_regime_and_an_algorithm(protocol: Protocol) -> None:
    TestbedBackend().validate(protocol, FILE.name)
    regimes = parse_settings(protocol, FILE.name).regimes
    for each in predictions():
        assert each.regime in regimes
        assert each.algorithm in KINDS
        figures = {"value", "greedy", "early", "final", "mean_length"}
        figures |= {f"pass@{k}" for k in regimes[each.regime].evaluation.pass_at}
        assert each.figure in figures


@pytest.mark.parametrize(
    ("effect", "direction"),
    [(0.006, "up"), (0.005, "up"), (0.004, "level"), (0.0, "level"), (-0.0049, "level"), (-0.2, "down")],
)
def test_an_effect_below_half_a_point_is_level(effect: float, direction: str) -> None:
    assert Direction.of(effect) == direction


def test_conditions_choose_strength_age_and_attempts() -> None:
    one = study_effects("soft-gate", Conditions(off_policyness=("stale",)), published())
    other = study_effects("soft-gate", Conditions(off_policyness=("mild", "unknown")), published())
    assert one.keys() == {"VESPO"}
    assert one["VESPO"] < 0 < other["VESPO"]
    many = study_effects("negative-only", Conditions(attempts="many"), published())
    few = study_effects("negative-only", Conditions(), published())
    assert few["RLVR-Decomposed"] < 0 < many["RLVR-Decomposed"]


def runs_with(protocol: Protocol, effects: dict[str, float]) -> Runs:
    """Four seeds of each algorithm, all of whose figures lie `effects` above GRPO's."""
    records = []
    for name, effect in {"grpo": 0.0, **effects}.items():
        for seed in range(4):
            value = 0.5 + 0.01 * seed + effect
            details = dict.fromkeys(("greedy", "early", "final", "mean_length", "pass@1", "pass@4", "pass@32"), value)
            records.append(
                Record(
                    name, seed, protocol.hash, 1.0,
                    values=dict.fromkeys(protocol.suites, value), details=dict.fromkeys(protocol.suites, details),
                )
            )  # fmt: skip
    return Runs.of(records, protocol, protocol.suites)


def test_agreement_needs_the_published_direction(protocol: Protocol) -> None:
    counted = [each for each in predictions() if each.counts]
    signs = {Direction.UP: 0.02, Direction.LEVEL: 0.001, Direction.DOWN: -0.02}
    perfect = compare(runs_with(protocol, {p.algorithm: signs[p.expected] for p in counted}), counted, in_utility=False)
    assert [each.agrees for each in perfect] == [True] * 12
    other = {Direction.UP: -0.001, Direction.LEVEL: 0.02, Direction.DOWN: 0.02}
    wrong = compare(runs_with(protocol, {p.algorithm: other[p.expected] for p in counted}), counted, in_utility=False)
    assert [each.agrees for each in wrong] == [False] * 12


def test_an_unresolved_effect_agrees_in_some_draws_only() -> None:
    prediction = next(each for each in predictions() if each.algorithm == "sequence-ratio")
    clear = Compared(prediction, {"a": 0.02, "b": 0.02}, {0: 0.02, 1: 0.02})
    unclear = Compared(prediction, {"a": 0.02, "b": -0.01}, {0: 0.02, 1: -0.01})
    generator = np.random.default_rng(0)
    assert clear.resampled(generator).all()
    assert 0.2 < unclear.resampled(generator).mean() < 0.8


def test_the_report_counts_what_has_run(protocol: Protocol) -> None:
    text = report(runs_with(protocol, {"soft-gate": -0.03, "cispo": 0.0}), predictions())
    assert "In the matching regime: 1 of 1 agree" in text
    assert "| soft-gate | choice | stale, value | -10.9 | 1 | -3.0 ± 0.0 | yes |" in text
    assert "| cispo | report | stale, value | -0.1 | " in text


def test_a_malformed_prediction_is_refused() -> None:
    with pytest.raises(ValueError, match="algorithm"):
        Prediction.model_validate(
            {"algorithm": "gpro", "half": "report", "regime": "x", "figure": "value", "expected": "up", "reason": ""}
        )
