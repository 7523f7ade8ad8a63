"""Build the facts of a reflection from the evidence, in the same way for every agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from poise_git.analysis.evidence import Difference, Direction, Evidence
from poise_git.archive.facts import ClaimFact, FigureFact, ReflectionFacts

VERDICTS: Mapping[Direction, str] = {
    Direction.UP: "better",
    Direction.DOWN: "worse",
    Direction.WITHIN_NOISE: "within noise",
}


def facts_of(evidence: Evidence) -> ReflectionFacts:
    """The verdict, the tables and the claims. An agent adds its advice with `ReflectionFacts.advising`."""
    utility = evidence.utility_against(evidence.parent)
    against_root = evidence.against(evidence.root) if evidence.root != evidence.parent else ()
    return ReflectionFacts(
        verdict=VERDICTS[utility.direction if utility else Direction.WITHIN_NOISE],
        parent=evidence.parent,
        seeds=evidence.runs,
        against_parent=_table(evidence.against(evidence.parent)),
        against_root=_table(against_root),
        claims=tuple(
            ClaimFact(statement=entry.claim.statement, verdict=str(entry.verdict), because=entry.because)
            for entry in evidence.claims
        ),
        violations=tuple(violation.constraint for violation in evidence.violations),
        warnings=evidence.warnings,
    )


def _table(differences: Iterable[Difference]) -> dict[str, FigureFact]:
    return {
        entry.figure: FigureFact(
            value=_rounded(entry.value.value),
            difference=_rounded(entry.difference.value),
            se=None if entry.difference.se is None else _rounded(entry.difference.se),
            direction=str(entry.direction),
        )
        for entry in differences
    }


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
