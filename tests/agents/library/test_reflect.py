from __future__ import annotations

from dataclasses import replace

import yaml

from poise_git.agents.library.agent import LibraryAgent
from poise_git.analysis.evidence import ClaimVerdict, Difference, Direction, Evidence, Verdict
from poise_git.archive.entries import Claim, Estimate, Proposal
from poise_git.archive.facts import FigureFact, ReflectionFacts
from poise_git.search.proposals.directions import OPEN
from tests import sentences
from tests.agents.library.support import context

AGENT = LibraryAgent()
HOLDS = ClaimVerdict(Claim("Entropy stays higher.", "effect", {"figure": "entropy"}), Verdict.HELD, "entropy +0.3")
FAILS = ClaimVerdict(Claim("pass@8 rises.", "effect", {"figure": "pass@8"}), Verdict.REFUTED, "pass@8 -0.1 ± 0.01")


def difference(figure: str, against: str, value: float, moved: float, direction: Direction) -> Difference:
    return Difference(figure, against, Estimate(value, 0.005, 4), Estimate(moved, 0.01, 4, interval=0.02), direction)


def evidence(utility: float = 0.03, direction: Direction = Direction.UP) -> Evidence:
    return Evidence(
        candidate="cispo-av-grpo",
        parent="av-grpo",
        root="grpo",
        protocol="0" * 12,
        runs=4,
        differences=(
            difference("utility", "av-grpo", 0.23, utility, direction),
            difference("entropy", "av-grpo", 0.8, -0.31, Direction.DOWN),
            difference("valid_rate", "av-grpo", 0.7, 0.004, Direction.WITHIN_NOISE),
            difference("utility", "grpo", 0.23, 0.08, Direction.UP),
        ),
        claims=(HOLDS, FAILS),
        warnings=("entropy collapsed: 1.20 at the start, 0.050 at the end",),
        dynamics={"entropy": (0.4, 0.05), "all_fail_rate": (0.8, 0.7), "valid_rate": (0.7, 0.9)},
    )


def proposal(operation: str = "add") -> Proposal:
    (found,) = AGENT.propose(context(), (OPEN,), 0)
    return replace(found, priors=("cispo",), mechanism="Clipped weights", plan={"operation": operation})


def test_changes_are_distinguished_from_noise() -> None:
    reflection = AGENT.reflect(proposal(), evidence(), "")
    assert reflection.facts.verdict == "better"
    assert "# cispo-av-grpo: better than its parent" in reflection.prose
    assert "Utility is 0.230: +0.03 ± 0.02 against its parent av-grpo, beyond noise." in reflection.prose
    assert "Against the root grpo it is +0.08 ± 0.02, beyond noise." in reflection.prose
    assert "- entropy is down: -0.31 ± 0.02, to 0.8." in reflection.prose
    assert "Within noise: valid_rate." in reflection.prose
    assert reflection.facts.against_parent["entropy"] == FigureFact(
        value=0.8, difference=-0.31, se=0.01, direction="down"
    )  # fmt: skip
    assert set(reflection.facts.against_root) == {"utility"}


def test_claims_warnings_and_weak_spots_are_reported() -> None:
    reflection = AGENT.reflect(proposal(), evidence(), "")
    assert "- held: Entropy stays higher. (entropy +0.3)" in reflection.prose
    assert "- refuted: pass@8 rises. (pass@8 -0.1 ± 0.01)" in reflection.prose
    assert "- entropy collapsed: 1.20 at the start" in reflection.prose
    assert reflection.facts.focus == ("entropy", "exploration", "all-fail", "rare-success")
    assert "70% of the groups still fail altogether" in reflection.prose
    assert any("not for the stated reason" in advice for advice in reflection.facts.next)


def test_a_loss_advises_the_parent_and_noise_advises_more_seeds() -> None:
    worse = AGENT.reflect(proposal(), evidence(-0.05, Direction.DOWN), "")
    assert worse.facts.verdict == "worse"
    assert worse.facts.next[0] == sentences.GO_BACK.format(mechanism="cispo", parent="av-grpo")
    noise = AGENT.reflect(proposal(), evidence(0.01, Direction.WITHIN_NOISE), "")
    assert noise.facts.verdict == "within noise"
    assert "# cispo-av-grpo: within noise\n" in noise.prose
    assert sentences.SEEDS_DETECT.format(seeds=4, difference=0.02) in noise.facts.next[0]


def test_an_ablation_reverses_the_reading() -> None:
    assert "Leave cispo out" in AGENT.reflect(proposal("remove"), evidence(), "").facts.next[0]
    assert "Put cispo back" in AGENT.reflect(proposal("remove"), evidence(-0.05, Direction.DOWN), "").facts.next[0]


def test_a_child_of_the_root_is_compared_once_and_facts_are_plain_yaml() -> None:
    reflection = AGENT.reflect(proposal(), replace(evidence(), root="av-grpo"), "")
    assert reflection.facts.against_root == {}
    assert "Against the root" not in reflection.prose
    assert ReflectionFacts.from_data(yaml.safe_load(yaml.safe_dump(reflection.facts.to_data()))) == reflection.facts


def test_a_missing_measurement_is_stated() -> None:
    empty = replace(evidence(), differences=(), claims=(), warnings=(), dynamics={}, runs=0)
    reflection = AGENT.reflect(proposal(), empty, "")
    assert reflection.facts.verdict == "within noise"
    assert sentences.REFLECTION_NOT_PAIRED.format(parent=empty.parent) in reflection.prose
    assert sentences.REFLECTION_NOTHING_MOVED in reflection.prose
    assert sentences.REFLECTION_NO_CLAIMS in reflection.prose
