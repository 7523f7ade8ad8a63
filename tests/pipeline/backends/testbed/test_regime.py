"""The shipped protocol does what it is for; numbers of the ranking are in `tests/benchmarks/testbed_speed.py`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from poise_git.archive.entries import Run
from poise_git.pipeline.protocol import Protocol

RunTestbed = Callable[..., Run]


@pytest.mark.slow
def test_grpo_learns_from_an_imperfect_base_policy(run_testbed: RunTestbed, shipped: Protocol) -> None:
    run = run_testbed(protocol=shipped)
    assert 0.2 < run.series["valid_rate"][0] < 0.5
    assert 0.02 < run.series["correct_rate"][0] < 0.15
    assert run.series["all_fail_rate"][0] > 0.5
    first, last = run.curve[0]["overall"], run.curve[-1]["overall"]
    assert last > 1.5 * first
    assert last > first + 0.03
    assert sum(run.series["valid_rate"][-5:]) / 5 < 0.95
