"""The reflect operator: turn the evidence table into a verdict, a diagnosis and next steps, in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import Environment, StrictUndefined

from poise_git.agents.library.ideas import Operation
from poise_git.analysis.evidence import Difference, Direction, Evidence, Verdict
from poise_git.analysis.facts import facts_of
from poise_git.archive.entries import Proposal, Reflection
from poise_git.package_data import read_prompt

TEMPLATE = "reflection.md.j2"
# Thresholds for weak spots: late entropy and validity, and shares of groups and tokens.
LOW_ENTROPY = 0.1
LOW_VALIDITY = 0.5
HIGH_ALL_FAIL = 0.5
HIGH_CLIPPING = 0.1


def reflect(proposal: Proposal, evidence: Evidence) -> Reflection:
    """The diagnosis of a trained candidate: the facts, with tags of mechanisms that address the weak spots."""
    utility = evidence.utility_against(evidence.parent)
    weak_spots = list(_weak_spots(evidence))
    focus = list(dict.fromkeys(tag for _, tags in weak_spots for tag in tags))
    facts = facts_of(evidence)
    advice = [*_advice(proposal, evidence, facts.verdict), *(advice for advice, _ in weak_spots)]
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined, autoescape=False
    )
    prose = environment.from_string(read_prompt(TEMPLATE)).render(
        proposal=proposal,
        evidence=evidence,
        verdict=facts.verdict,
        utility=utility,
        root_utility=evidence.utility_against(evidence.root) if evidence.root != evidence.parent else None,
        moved=[entry for entry in evidence.against(evidence.parent) if _moved(entry)],
        unmoved=[entry.figure for entry in evidence.against(evidence.parent) if not _moved(entry)],
        advice=advice,
    )
    return Reflection(facts.advising(focus, advice), prose)


def _advice(proposal: Proposal, evidence: Evidence, verdict: str) -> Iterator[str]:
    """Next steps from the comparison itself."""
    what = ", ".join(proposal.priors) or proposal.mechanism
    removed = proposal.plan.get("operation") == Operation.REMOVE
    utility = evidence.utility_against(evidence.parent)
    if verdict == "better":
        yield (
            f"Leave {what} out from now on."
            if removed
            else f"Keep {what}. Combine it with mechanisms of other stages, and vary its knobs."
        )
    elif verdict == "worse":
        yield f"Put {what} back." if removed else f"Do not build on {what} here. Go back to {evidence.parent}."
    elif utility is None:
        yield f"Undecided: {evidence.parent} has no runs on these seeds; poise-git evaluate {evidence.parent}."
    elif utility.difference.interval is None:
        yield "Undecided: one seed has no standard error. Use a protocol with more seeds."
    elif utility.difference.se == 0:
        yield f"It had no effect at all: {what} has nothing to act on here, or its knobs are too weak."
    else:
        yield (
            f"Undecided: {evidence.runs} seeds can only detect differences above {utility.difference.interval:.3f}. "
            "Use a protocol with more seeds, or stronger knobs."
        )
    refuted = [
        entry.claim.statement
        for entry in evidence.claims
        if entry.verdict is Verdict.REFUTED and entry.claim.arguments.get("figure") != "utility"
    ]
    if refuted and verdict == "better":
        yield f"It helped, but not for the stated reason (refuted: {' '.join(refuted)}). Find out why."


def _weak_spots(evidence: Evidence) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Next steps from the dynamics, with the tags of mechanisms that address them."""
    late = {name: values[1] for name, values in evidence.dynamics.items()}
    if late.get("entropy", 1.0) < LOW_ENTROPY:
        yield (
            f"Entropy ends at {late['entropy']:.3f}. Try mechanisms that preserve exploration.",
            ("entropy", "exploration"),
        )
    if late.get("valid_rate", 1.0) < LOW_VALIDITY:
        yield (
            f"Only {late['valid_rate']:.0%} of the responses are valid late in training. Try mechanisms for validity.",
            ("validity",),
        )
    if late.get("all_fail_rate", 0.0) > HIGH_ALL_FAIL:
        yield (
            f"{late['all_fail_rate']:.0%} of the groups still fail altogether. Try mechanisms that learn from them.",
            ("all-fail", "rare-success"),
        )
    if evidence.dynamics.get("clip_fraction", (0.0, 0.0))[0] > HIGH_CLIPPING:
        yield (
            f"{evidence.dynamics['clip_fraction'][0]:.0%} of the tokens are clipped. Try another trust region.",
            ("clip", "ratio"),
        )
    length = next((entry for entry in evidence.against(evidence.root) if entry.figure == "response_length"), None)
    if length and length.direction is Direction.UP:
        yield (
            f"Responses are {length.difference.value:.1f} tokens longer than the root's. Try mechanisms for brevity.",
            ("concise",),
        )


def _moved(entry: Difference) -> bool:
    return entry.direction is not Direction.WITHIN_NOISE
