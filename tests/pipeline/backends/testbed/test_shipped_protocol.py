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


def test_the_quick_protocol_is_a_part_of_the_whole(shipped: Protocol) -> None:
    quick = read_protocol(ROOT / "recipe_template" / "protocols" / "quick.yaml")
    whole = parse_settings(shipped, "testbed.yaml")
    part = parse_settings(quick, "quick.yaml")
    assert (part.revision, part.device) == (whole.revision, whole.device)
    assert part.regimes.items() < whole.regimes.items()
    assert (quick.seeds, quick.estimator) == (shipped.seeds, shipped.estimator)


@pytest.mark.nightly
@pytest.mark.slow
def test_grpo_learns_from_imperfect_base_policies(grpo: Run, shipped: Protocol) -> None:
    for regime in shipped.suites:
        assert 0.15 < grpo.series[f"{regime}/valid_rate"][0] < 0.75, regime
        assert 0.005 < grpo.series[f"{regime}/correct_rate"][0] < 0.35, regime
        assert grpo.curve[-1][regime] > 1.1 * grpo.curve[0][regime], regime
        # GRPO neither solves the task nor collapses, so improvements are possible.
        assert 0.0 < grpo.curve[-1][regime] < 0.8, regime
        assert grpo.series[f"{regime}/entropy"][-1] > 0.02, regime
    assert grpo.curve[-1]["overall"] > 1.3 * grpo.curve[0]["overall"]


@pytest.mark.nightly
@pytest.mark.slow
def test_every_regime_serves_its_purpose(grpo: Run) -> None:
    """`sparse` has failed groups, `reuse` reuses rollouts, and `length` has needlessly long answers."""
    mean = {name: sum(values) / len(values) for name, values in grpo.series.items()}
    start = {name: sum(values[:5]) / 5 for name, values in grpo.series.items()}
    assert mean["sparse/all_fail_rate"] > max(0.65, mean["composite/all_fail_rate"])
    assert mean["reuse/clip_fraction"] > 3 * mean["composite/clip_fraction"]
    assert start["length/response_length"] > 1.2 * start["composite/response_length"]
    assert start["length/correct_rate"] > 2 * start["composite/correct_rate"]
    assert mean["length/response_length"] < start["length/response_length"]
