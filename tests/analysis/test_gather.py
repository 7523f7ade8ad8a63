from __future__ import annotations

import pytest

from poise_git.analysis.evidence import Direction, Evidence, Verdict
from poise_git.analysis.gather import gather_evidence
from poise_git.archive.entries import Claim, Run


def run(seed: int, value: float, *, entropy: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)) -> Run:
    return Run(
        protocol="p",
        seed=seed,
        values={"s1": value, "s2": value + 0.1},
        details={"s1": {"pass@8": value}, "s2": {"pass@8": value}},
        series={"entropy": entropy, "valid_rate": (0.5,) * 5},
        curve=(),
        cpu_seconds=1.0,
    )


WEIGHTS = {"s1": 0.5, "s2": 0.5}


def gather(own: list[Run], parent: list[Run], root: list[Run], *claims: Claim) -> Evidence:
    return gather_evidence("c", "p", "grpo", "h", {"c": own, "p": parent, "grpo": root}, WEIGHTS, claims, ())


def test_differences_are_paired_and_judged_against_parent_and_root() -> None:
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


def test_effect_claims_are_decided_beyond_noise_only() -> None:
    up = Claim("u rises", "effect", {"figure": "utility", "direction": "up"})
    down = Claim("u falls", "effect", {"figure": "utility", "direction": "down"})
    unknown = Claim("x", "effect", {"figure": "no-such-figure", "direction": "up"})
    parent = [run(0, 0.1), run(1, 0.2), run(2, 0.3)]
    better = [run(0, 0.2), run(1, 0.301), run(2, 0.4)]
    evidence = gather(better, parent, parent, up, down, unknown)
    assert [entry.verdict for entry in evidence.claims] == [Verdict.HELD, Verdict.REFUTED, Verdict.UNDECIDED]
    noisy = [run(0, 0.3), run(1, 0.1), run(2, 0.35)]
    assert gather(noisy, parent, parent, up).claims[0].verdict is Verdict.UNDECIDED


def test_warnings_name_what_is_conspicuous() -> None:
    collapsed = [run(seed, 0.1, entropy=(1.0, 0.5, 0.2, 0.05, 0.01)) for seed in range(2)]
    calm = [run(seed, 0.1) for seed in range(2)]
    assert any("entropy collapsed" in warning for warning in gather(collapsed, calm, calm).warnings)
    other = [run(seed, 0.2) for seed in range(2)]
    assert gather(calm, other, other).warnings == ()


def test_a_mechanism_that_never_acted_is_called_so() -> None:
    same = [run(seed, 0.1) for seed in range(2)]
    assert any("did nothing" in warning for warning in gather(same, same, same).warnings)
