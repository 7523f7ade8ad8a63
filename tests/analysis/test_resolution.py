from __future__ import annotations

import random

import pytest

from poise_git.analysis.resolution import Resolution, Source, resolution
from poise_git.archive.entries import Estimate
from poise_git.measurement.statistics import Noise, estimate


def gains(candidates: int, seeds: int = 4, deviation: float = 0.01) -> list[Estimate]:
    rng = random.Random(5)
    return [estimate([rng.gauss(0.0, deviation) for _ in range(seeds)]) for _ in range(candidates)]


def differences(found: Resolution | None) -> dict[int, float | None]:
    assert found is not None
    return {row.seeds: row.difference for row in found.by_seeds}


def test_an_archive_without_measurements_has_no_resolution() -> None:
    assert resolution([], 0.2, 4) is None
    assert resolution([Estimate(0.0, 0.0, 4), Estimate(0.1, None, 1)], 0.2, 4) is None


def test_more_seeds_detect_smaller_differences_and_one_detects_none() -> None:
    seen = differences(resolution(gains(200), 0.2, 4))
    assert list(seen) == [1, 2, 4, 8, 16]
    assert seen.pop(1) is None
    values = [value for value in seen.values() if value is not None]
    assert values == sorted(values, reverse=True)
    # Four times the seeds, half the difference, but for the degrees of freedom.
    assert values[-3] / 3 < values[-1] < values[-3] / 2
    # With normal quantiles (1.96 + 0.84) * 0.01 / 4.
    assert values[-1] == pytest.approx(0.0070, rel=0.1)


def test_the_resolution_has_the_seeds_of_the_protocol_and_is_relative_to_the_root() -> None:
    found = resolution(gains(200), 0.2, 6)
    assert list(differences(found)) == [1, 2, 4, 6, 8, 16]
    assert found is not None
    assert found.own.seeds == 6
    assert found.own in found.by_seeds
    assert found.relative == pytest.approx((found.own.difference or 0.0) / 0.2)
    for utility in (0.0, None):
        without = resolution(gains(200), utility, 6)
        assert without is not None
        assert without.relative is None
    data = found.to_data()
    assert data["source"] == "archive"
    assert data["own"] == data["by_seeds"][3]


def test_the_stated_deviation_holds_until_the_archive_has_enough_runs() -> None:
    alone = resolution([], None, 4, stated=Noise(0.02, 20.0))
    assert alone is not None
    assert (alone.source, alone.deviation, alone.comparisons) == (Source.PROTOCOL, 0.02, 0)
    few = resolution(gains(2), 0.2, 4, stated=Noise(0.02, 20.0))
    assert few is not None
    assert (few.source, few.deviation, few.comparisons) == (Source.PROTOCOL, 0.02, 2)
    assert differences(few) == differences(alone)
    assert all(differences(few).values()), "one seed can detect a difference, too"
    enough = resolution(gains(3), 0.2, 4, stated=Noise(0.02, 20.0))
    assert enough is not None
    assert enough.source is Source.ARCHIVE
    assert enough.deviation < 0.02
    unstated = resolution(gains(1), 0.2, 4)
    assert unstated is not None
    assert unstated.source is Source.ARCHIVE


def test_one_seed_detects_nothing_unless_the_protocol_states_its_noise() -> None:
    unstated = resolution(gains(200), 0.2, 1)
    assert unstated is not None
    assert (unstated.own.difference, unstated.relative) == (None, None)
    assert differences(unstated)[8] is not None
    stated = resolution([], 0.2, 1, stated=Noise(0.02, 20.0))
    assert stated is not None
    assert stated.own.difference == pytest.approx((2.09 + 0.86) * 0.02, rel=0.02)
