from __future__ import annotations

from dataclasses import replace

from poise_git.archive.entries import Claim, Proposal
from poise_git.search.screening import screen

CLAIM = Claim("it helps", "effect", {"figure": "utility", "direction": "up"})
BASE = Proposal(
    name="rloo-grpo",
    parent="grpo",
    mechanism="leave-one-out baseline",
    hypothesis="less bias",
    family="baseline",
    agent="library",
    claims=(CLAIM,),
    priors=("leave-one-out",),
    plan={"operation": "add", "card": "leave-one-out"},
)


def test_the_same_change_of_the_same_parent_is_rejected_whatever_its_name() -> None:
    again = replace(BASE, name="other-name")
    elsewhere = replace(BASE, name="third-name", parent="rloo-grpo")
    verdicts = {
        entry.proposal.name: entry.rejected for entry in screen([again, elsewhere], [BASE], frozenset(), {}, 1.0)
    }
    assert "proposed before" in verdicts["other-name"]
    assert verdicts["third-name"] == ""


def test_gates_name_what_is_wrong() -> None:
    taken = replace(BASE, name="taken")
    infinite = replace(BASE, name="infinite", knobs={"clip_high": float("inf")})
    silent = replace(BASE, name="silent", mechanism=" ")
    verdicts = {
        entry.proposal.name: entry.rejected
        for entry in screen([taken, infinite, silent], [], frozenset({"taken"}), {}, 1.0)
    }
    assert verdicts == {
        "taken": "the name taken is taken",
        "infinite": "knob clip_high is not a finite number",
        "silent": "no mechanism is stated",
    }


def test_relatives_that_helped_raise_promise_and_those_that_hurt_lower_it() -> None:
    relative = replace(BASE, name="relative", parent="x")

    def promise(gain: float) -> float:
        return screen([BASE], [relative], frozenset(), {"relative": gain}, 0.1)[0].scores["promise"]

    assert promise(0.2) > promise(0.0) > promise(-0.2)
    assert promise(0.0) == 0.5


def test_rejected_come_last_and_scores_decide_the_rest() -> None:
    unclaimed = replace(BASE, name="unclaimed", claims=(), plan={"card": "b"})
    duplicate = replace(BASE, name="duplicate")
    ordered = [entry.proposal.name for entry in screen([unclaimed, BASE, duplicate], [], frozenset(), {}, 1.0)]
    assert ordered == ["rloo-grpo", "unclaimed", "duplicate"]
