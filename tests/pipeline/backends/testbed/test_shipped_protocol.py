"""The shipped protocol serves its purpose; `tests/benchmarks/testbed_resolution.py` measures its resolution."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from poise_git.archive.entries import Run
from poise_git.pipeline.backends.testbed.settings import parse_settings
from poise_git.pipeline.protocol import Protocol
from tests.pipeline.backends.testbed.conftest import ROOT, read_protocol

RunTestbed = Callable[..., Run]


@pytest.fixture(scope="module")
def grpo(run_testbed: RunTestbed, shipped: Protocol) -> Run:
    """One run of GRPO in every regime."""
    return run_testbed(protocol=shipped)


@pytest.mark.parametrize("name", ["quick", "screening"])
def test_a_short_protocol_is_a_part_of_the_whole(name: str, shipped: Protocol) -> None:
    short = read_protocol(ROOT / "recipe_template" / "protocols" / f"{name}.yaml")
    whole = parse_settings(shipped, "testbed.yaml")
    part = parse_settings(short, f"{name}.yaml")
    assert (part.revision, part.device) == (whole.revision, whole.device)
    assert part.regimes.keys() < whole.regimes.keys()
    for place, regime in part.regimes.items():
        # Only what is measured after training differs.
        last = regime.evaluation.model_dump(include={"final_samples", "final_problems", "pass_at"})
        there = whole.regimes[place]
        assert regime == there.model_copy(update={"evaluation": there.evaluation.model_copy(update=last)})
    assert (short.seeds, short.estimator) == (shipped.seeds, shipped.estimator)


@pytest.mark.nightly
@pytest.mark.slow
def test_grpo_learns_from_imperfect_base_policies(grpo: Run, shipped: Protocol) -> None:
    for regime in shipped.suites:
        assert 0.01 < grpo.series[f"{regime}/correct_rate"][0] < 0.6, regime
        # In `weak` GRPO learns the form first.
        learned = "valid_rate" if regime == "weak" else "correct_rate"
        series = grpo.series[f"{regime}/{learned}"]
        assert sum(series[-5:]) > 1.05 * sum(series[:5]), regime
        # GRPO neither solves the task nor collapses, so improvements are possible.
        assert 0.0 < grpo.curve[-1][regime] < 0.95, regime
        assert grpo.series[f"{regime}/entropy"][-1] > 0.005, regime
    assert grpo.curve[-1]["overall"] > 1.1 * grpo.curve[0]["overall"]


@pytest.mark.nightly
@pytest.mark.slow
def test_every_regime_serves_its_purpose(grpo: Run, shipped: Protocol) -> None:
    mean = {name: sum(values) / len(values) for name, values in grpo.series.items()}
    start = {name: sum(values[:5]) / 5 for name, values in grpo.series.items()}
    end = {name: sum(values[-5:]) / 5 for name, values in grpo.series.items()}
    for regime in shipped.suites:
        assert (start[f"{regime}/valid_rate"] > 0.85) == (regime != "weak"), regime
    assert mean["capable/clip_fraction"] == 0.0
    assert 0.0 < mean["mild/clip_fraction"] < 0.01
    assert mean["stale/clip_fraction"] > 5 * mean["mild/clip_fraction"]
    assert mean["sparse/all_fail_rate"] > max(0.5, 2 * start["mild/all_fail_rate"])
    assert end["long/entropy"] < 0.1 < start["long/entropy"]
    assert grpo.details["sharpen"]["pass@32"] > 1.15 * grpo.details["sharpen"]["pass@4"]
    assert start["length/response_length"] > 1.4 * start["mild/response_length"]
