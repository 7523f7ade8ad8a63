from __future__ import annotations

from dataclasses import replace

from poise_git.analysis.evidence import ClaimVerdict, Difference, Direction, Evidence, Verdict
from poise_git.analysis.facts import facts_of
from poise_git.archive.entries import Claim, Estimate, Violation


def difference(figure: str, against: str, moved: float, direction: Direction) -> Difference:
    return Difference(figure, against, Estimate(0.123456789, 0.01, 4), Estimate(moved, None, 4), direction)


EVIDENCE = Evidence(
    candidate="child",
    parent="parent",
    root="grpo",
    protocol="0" * 12,
    runs=4,
    differences=(
        difference("utility", "parent", 0.0123456, Direction.UP),
        difference("entropy", "parent", -0.3, Direction.WITHIN_NOISE),
        difference("utility", "grpo", 0.05, Direction.UP),
    ),
    claims=(ClaimVerdict(Claim("It helps.", "effect"), Verdict.HELD, "utility +0.01"),),
    warnings=("the gradient vanished",),
    dynamics={},
    violations=(Violation("entropy", ">= 0.5", Estimate(0.1, None, 4)),),
)


def test_facts_follow_from_the_evidence() -> None:
    assert facts_of(EVIDENCE).to_data() == {
        "verdict": "better",
        "parent": "parent",
        "seeds": 4,
        "against_parent": {
            "utility": {"value": 0.12346, "difference": 0.012346, "se": None, "direction": "up"},
            "entropy": {"value": 0.12346, "difference": -0.3, "se": None, "direction": "within noise"},
        },
        "against_root": {"utility": {"value": 0.12346, "difference": 0.05, "se": None, "direction": "up"}},
        "claims": ({"statement": "It helps.", "verdict": "held", "because": "utility +0.01"},),
        "violations": ("entropy >= 0.5",),
        "warnings": ("the gradient vanished",),
    }


def test_a_child_of_the_root_is_compared_once() -> None:
    assert facts_of(replace(EVIDENCE, root="parent")).against_root == {}


def test_no_change_is_beyond_noise_without_a_utility() -> None:
    assert facts_of(replace(EVIDENCE, differences=())).verdict == "within noise"
