from __future__ import annotations

from dataclasses import replace

import pytest

from poise_git.analysis.evidence import Direction, Evidence, Verdict
from poise_git.analysis.evidence_table import gather_evidence
from poise_git.archive.entries import Claim, Run
from poise_git.measurement.figures import UTILITY, figures
from poise_git.measurement.metrics import summarize
from poise_git.measurement.objective import Objective
from tests import sentences

CALM = (1.0, 1.0, 1.0, 1.0, 1.0)
COLLAPSING = (1.0, 0.5, 0.2, 0.05, 0.01)


def run(seed: int, value: float, *, entropy: tuple[float, ...] = CALM) -> Run:
    """A run whose series have plain names, as a backend without regimes records them."""
    return Run(
        protocol="p",
        seed=seed,
        values={"s1": value, "s2": value + 0.1},
        details={"s1": {"pass@8": value}, "s2": {"pass@8": value}},
        series={"entropy": entropy, "valid_rate": (0.5,) * 5},
        curve=(),
        cpu_seconds=1.0,
    )


def run_in_regimes(
    seed: int, value: float, *, first: tuple[float, ...] = CALM, second: tuple[float, ...] = CALM
) -> Run:
    """The same series in two regimes; the second trains for fewer steps."""
    series = {"s1/entropy": first, "s2/entropy": second[:4], "s1/valid_rate": (0.5,) * 5, "s2/valid_rate": (0.5,) * 4}
    return replace(run(seed, value), series=series)


SUITES = {"s1": 0.5, "s2": 0.5}


def gather(own: list[Run], parent: list[Run], root: list[Run], *claims: Claim) -> Evidence:
    return gather_evidence(
        "c", "p", "grpo", "h", {"c": own, "p": parent, "grpo": root}, {}, Objective(SUITES), claims, ()
    )


def test_differences_from_parent_and_root_are_paired() -> None:
    worlds = (0.1, 0.9)
    evidence = gather(
        [run(i, world + 0.05 + 0.001 * i) for i, world in enumerate(worlds)],
        [run(i, world + 0.05 - 0.02 * (-1) ** i) for i, world in enumerate(worlds)],
        [run(i, world) for i, world in enumerate(worlds)],
    )
    against_root = {row.figure: row for row in evidence.against("grpo")}
    assert against_root["utility"].difference.value == pytest.approx(0.0505)
    assert against_root["utility"].direction is Direction.UP
    against_parent = {row.figure: row for row in evidence.against("p")}
    assert against_parent["utility"].direction is Direction.WITHIN_NOISE
    assert evidence.runs == 2


def test_effect_claims_are_decided_only_beyond_noise() -> None:
    up = Claim("u rises", "effect", {"figure": "utility", "direction": "up"})
    down = Claim("u falls", "effect", {"figure": "utility", "direction": "down"})
    unknown = Claim("x", "effect", {"figure": "no-such-figure", "direction": "up"})
    parent = [run(0, 0.1), run(1, 0.2), run(2, 0.3)]
    better = [run(0, 0.2), run(1, 0.301), run(2, 0.4)]
    evidence = gather(better, parent, parent, up, down, unknown)
    assert [entry.verdict for entry in evidence.claims] == [Verdict.HELD, Verdict.REFUTED, Verdict.UNDECIDED]
    noisy = [run(0, 0.3), run(1, 0.1), run(2, 0.35)]
    assert gather(noisy, parent, parent, up).claims[0].verdict is Verdict.UNDECIDED


def test_warnings_name_conspicuous_figures() -> None:
    collapsed = [run(seed, 0.1, entropy=COLLAPSING) for seed in range(2)]
    calm = [run(seed, 0.1) for seed in range(2)]
    (warning,) = gather(collapsed, calm, calm).warnings
    assert warning == "entropy collapsed: 1.00 at the start, 0.010 at the end"
    other = [run(seed, 0.2) for seed in range(2)]
    assert gather(calm, other, other).warnings == ()


def test_warnings_name_the_regime() -> None:
    calm = [run_in_regimes(seed, 0.1) for seed in range(2)]
    collapsed = [run_in_regimes(seed, 0.2, second=COLLAPSING) for seed in range(2)]
    (warning,) = gather(collapsed, calm, calm).warnings
    assert warning == "entropy collapsed: 1.00 at the start, 0.050 at the end (regime s2)"
    both = [run_in_regimes(seed, 0.2, first=COLLAPSING, second=COLLAPSING) for seed in range(2)]
    assert [warning[-12:] for warning in gather(both, calm, calm).warnings] == [" (regime s1)", " (regime s2)"]
    assert gather([run_in_regimes(seed, 0.2) for seed in range(2)], calm, calm).warnings == ()


def test_a_series_is_the_mean_over_regimes_and_claims_use_its_name() -> None:
    calm = [run_in_regimes(seed, 0.1) for seed in range(2)]
    collapsed = [run_in_regimes(seed, 0.2, second=COLLAPSING) for seed in range(2)]
    mean = sum(COLLAPSING[:4]) / 4
    assert figures(collapsed, SUITES)["entropy"] == {seed: pytest.approx((1.0 + mean) / 2) for seed in range(2)}
    down = Claim("entropy falls", "effect", {"figure": "entropy", "direction": "down"})
    evidence = gather(collapsed, calm, calm, down)
    assert evidence.claims[0].verdict is Verdict.HELD
    assert evidence.dynamics["entropy"] == pytest.approx(((1.0 + mean) / 2, (1.0 + 0.05) / 2))
    assert not any("/" in row.figure for row in evidence.differences)


def test_a_metric_is_not_overwritten_by_a_figure_of_the_same_name() -> None:
    plain = run(0, 0.3)
    named = replace(
        plain,
        values={"entropy": 0.3, "chain-2": 0.4},
        details={"entropy": {"chain-2": 0.9, "pass@8": 0.5}, "chain-2": {}},
    )
    found = figures([named], {"entropy": 0.5, "chain-2": 0.5})
    assert {name: by_seed[0] for name, by_seed in found.items()} == {
        "overall": 0.35, "entropy": 0.3, "chain-2": 0.4, "pass@8": 0.5, "valid_rate": 0.5,
    }  # fmt: skip


def test_series_without_regimes_are_their_own_mean() -> None:
    plain = [run(seed, 0.2, entropy=COLLAPSING) for seed in range(2)]
    mean = sum(COLLAPSING) / 5
    assert figures(plain, SUITES)["entropy"] == {seed: pytest.approx(mean) for seed in range(2)}
    assert gather(plain, plain, plain).dynamics["entropy"] == pytest.approx((mean, 0.01))


def test_a_mechanism_without_effect_is_reported() -> None:
    same = [run(seed, 0.1) for seed in range(2)]
    assert any(sentences.MECHANISM_HAD_NO_EFFECT in warning for warning in gather(same, same, same).warnings)


def test_a_replicated_candidate_has_one_gain() -> None:
    """The reflection and the metrics state the same utility and difference over all seeds."""
    objective = Objective(SUITES)
    own, root = [run(0, 0.30), run(1, 0.34)], [run(0, 0.20), run(1, 0.25)]
    more, against = (
        [run(seed, value) for seed, value in enumerate(values, 10)] for values in ((0.41, 0.49), (0.3, 0.28))
    )
    metrics = summarize("h", own, root, objective, None, (more, against))
    runs, further = {"c": own, "grpo": root}, {"c": more, "grpo": against}
    evidence = gather_evidence("c", "grpo", "grpo", "h", runs, further, objective, (), ())
    (utility,) = (entry for entry in evidence.differences if entry.figure == UTILITY)
    assert evidence.runs == 4
    assert (utility.value, utility.difference) == (metrics.utility, metrics.gain)
