from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from poise_git.analysis.evidence import Verdict
from poise_git.archive.entries import Claim
from poise_git.pipeline.checks import CheckReport

pytestmark = pytest.mark.slow

Edit = Callable[..., Mapping[str, str]]
Check = Callable[..., CheckReport]

SHAPING = (
    "def shape_advantages(advantages: Tensor, rollouts: Rollouts) -> Tensor:",
    "def shape_advantages(advantages: Tensor, rollouts: Rollouts, penalty: float = 0.5) -> Tensor:",
)
PENALTY = ("    return advantages\n\n\n# Loss", "    return advantages - penalty * (1.0 - rollouts.valid)\n\n\n# Loss")
REDUCTION = {"function": "shape_advantages", "argument": "penalty", "value": 0.0}
LEVELS = ["invalid", "valid-wrong", "correct"]


def decide(check: Check, recipe: Mapping[str, str], name: str, **arguments: Any) -> tuple[Verdict, str, bool]:
    report = check(recipe, (Claim("as said", name, arguments),))
    (entry,) = report.claims
    if report.failure is not None:
        assert report.failure.check == "claim"
        assert report.failure.reason == f"refuted: as said ({entry.because})"
    return entry.verdict, entry.because, report.failure is None


def test_reduction_holds_at_the_neutral_value_only(check: Check, edited: Edit) -> None:
    penalised = edited(SHAPING, PENALTY)
    verdict, because, passed = decide(check, penalised, "reduction", **REDUCTION)
    assert (verdict, passed) == (Verdict.HELD, True)
    assert because == "with shape_advantages(penalty=0.0) advantages, loss and gradient equal the parent's to 0"
    verdict, because, passed = decide(check, penalised, "reduction", **REDUCTION | {"value": 0.1})
    assert (verdict, passed) == (Verdict.REFUTED, False)
    assert because.startswith("with shape_advantages(penalty=0.1) advantages differ from the parent's by 0.1")


def test_reduction_covers_the_loss(check: Check, edited: Edit) -> None:
    clipped = edited(("clip_high: float = 0.2", "clip_high: float = 0.001"))
    arguments = {"function": "token_objective", "argument": "clip_high"}
    assert decide(check, clipped, "reduction", **arguments, value=0.2)[0] is Verdict.HELD
    verdict, because, _ = decide(check, clipped, "reduction", **arguments, value=0.002)
    assert verdict is Verdict.REFUTED
    assert "losses differ" in because


@pytest.mark.parametrize("arguments", [{"function": "nothing"}, {"argument": "nothing"}, {"argument": "rollouts"}])
def test_reduction_without_its_knob_is_refuted(check: Check, edited: Edit, arguments: dict[str, str]) -> None:
    verdict, because, _ = decide(check, edited(SHAPING, PENALTY), "reduction", **REDUCTION | arguments)
    assert verdict is Verdict.REFUTED
    assert "there is no function nothing" in because or "has no keyword" in because


def test_order_claims_are_decided(check: Check, grpo: Mapping[str, str], edited: Edit) -> None:
    assert decide(check, grpo, "order", levels=LEVELS)[0] is Verdict.HELD
    flat = edited(("    return rollouts.score\n", "    return rollouts.correct\n"))
    verdict, because, passed = decide(check, flat, "order", levels=LEVELS)
    assert (verdict, passed) == (Verdict.REFUTED, False)
    assert because.startswith("mean advantages invalid -")
    assert decide(check, flat, "order", levels=["valid-wrong", "correct"])[0] is Verdict.HELD


def test_zero_mean_claims_are_decided(check: Check, grpo: Mapping[str, str], edited: Edit) -> None:
    assert decide(check, grpo, "zero-mean")[0] is Verdict.HELD
    assert decide(check, edited(SHAPING, PENALTY), "zero-mean")[0] is Verdict.REFUTED


def test_bounded_claims_are_decided(check: Check, grpo: Mapping[str, str]) -> None:
    assert decide(check, grpo, "bounded", limit=7**0.5)[0] is Verdict.HELD
    assert decide(check, grpo, "bounded", limit=1.0)[0] is Verdict.REFUTED


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("effect", {"figure": "utility", "direction": "up"}),
        ("no-such-claim", {}),
        ("bounded", {}),
        ("bounded", {"limit": "many"}),
        ("order", {"levels": ["wrong-word", "correct"]}),
        ("order", {"levels": 3}),
    ],
)
def test_claims_that_code_cannot_decide_are_undecided(
    check: Check, grpo: Mapping[str, str], name: str, arguments: dict[str, Any]
) -> None:
    verdict, because, passed = decide(check, grpo, name, **arguments)
    assert (verdict, passed) == (Verdict.UNDECIDED, True)
    assert because
