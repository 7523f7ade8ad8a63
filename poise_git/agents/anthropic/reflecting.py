"""The operators after training: reflect, with every number checked, and distill."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from poise_git.agents.anthropic.citations import numbers_in, unsupported
from poise_git.agents.anthropic.replies import PrinciplesAnswer, ReflectionAnswer
from poise_git.agents.anthropic.session import Session
from poise_git.agents.library import reflect as rules
from poise_git.analysis.evidence import Difference, Evidence
from poise_git.analysis.facts import facts_of
from poise_git.analysis.lessons import Lesson
from poise_git.archive.documents import dump_yaml
from poise_git.archive.entries import Estimate, Proposal, Reflection
from poise_git.errors import ReplyUnusable

DIGITS = 4
# Show this many of the newest candidates; the earlier principles cover the older ones.
LESSONS = 60


def reflect(session: Session, proposal: Proposal, evidence: Evidence, change: str, directive: str) -> Reflection:
    """The model's diagnosis, with the facts that need no model.

    A number that is not in the evidence is sent back once. Such numbers that remain are listed in the facts as
    `unsupported_numbers`. Without a usable reply the facts say so (`diagnosis`), and rules write the prose.
    """
    table = dump_yaml(table_of(evidence))
    figures = (*_figures(evidence), *numbers_in(f"{table}\n{change}\n{dump_yaml(proposal.to_data())}"))
    task = session.prompts.render(
        "reflect.md.j2", proposal=proposal, evidence=evidence, change=change, table=table, directive=directive
    )

    def objection(answer: ReflectionAnswer) -> str:
        wrong = unsupported(_text(answer), figures)
        return f"these numbers are not in the evidence: {', '.join(wrong)}" if wrong else ""

    try:
        answer = session.ask(session.question("reflect", proposal.name, task), ReflectionAnswer, objection).answer
    except ReplyUnusable as failure:
        by_rules = rules.reflect(proposal, evidence)
        return Reflection(by_rules.facts.by_rules(failure.reason), by_rules.prose)
    facts = facts_of(evidence).advising(answer.focus, answer.next)
    warning = ""
    if wrong := unsupported(_text(answer), figures):
        facts = facts.doubting(wrong)
        warning = f"Numbers below that are not in the evidence: {', '.join(wrong)}.\n\n"
    advice = "".join(f"- {sentence}\n" for sentence in answer.next)
    title = f"# {evidence.candidate}: {facts.verdict}"
    return Reflection(facts, f"{title}\n\n{warning}{answer.diagnosis.strip()}\n\n## Next\n\n{advice or '- Nothing.'}")


def distill(session: Session, lessons: Sequence[Lesson], earlier: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The principles that the lessons support, each with existing candidates; without a reply, the earlier ones."""
    names = {lesson.candidate for lesson in lessons}
    task = session.prompts.render(
        "distill.md.j2",
        entries=[dump_yaml(lesson.to_data()) for lesson in lessons[-LESSONS:]],
        earlier=dump_yaml({"principles": [dict(entry) for entry in earlier]}) if earlier else "",
    )

    def objection(answer: PrinciplesAnswer) -> str:
        named = {name for principle in answer.principles for name in (*principle.support, *principle.against)}
        return f"unknown candidates: {', '.join(sorted(named - names))}" if named - names else ""

    try:
        answer = session.ask(session.question("distill", "", task), PrinciplesAnswer, objection).answer
    except ReplyUnusable:
        return [dict(entry) for entry in earlier]
    supported = (principle for principle in answer.principles if names.issuperset(principle.support))
    return [principle.model_dump() for principle in supported]


def table_of(evidence: Evidence) -> dict[str, Any]:
    """The evidence as plain data, with the digits that a reader needs."""
    return {
        "seeds": evidence.runs,
        **{
            f"against {name}": {entry.figure: _row(entry) for entry in evidence.against(name)}
            for name in dict.fromkeys((evidence.parent, evidence.root))
        },
        "training, mean over the whole run and over its end": {
            name: f"{whole:.{DIGITS}g}, {late:.{DIGITS}g}" for name, (whole, late) in evidence.dynamics.items()
        },
        "claims": [f"{entry.verdict}: {entry.claim.statement} ({entry.because})" for entry in evidence.claims],
        "warnings": list(evidence.warnings),
    }


def _text(answer: ReflectionAnswer) -> str:
    return "\n".join((answer.diagnosis, *answer.next))


def _figures(evidence: Evidence) -> Iterator[float]:
    """Every number of the evidence at full precision, so that any rounding of it counts as a citation."""
    yield float(evidence.runs)
    for entry in evidence.differences:
        for estimate in (entry.value, entry.difference):
            yield from (number for number in (estimate.value, estimate.se, estimate.interval) if number is not None)
    for pair in evidence.dynamics.values():
        yield from pair


def _row(entry: Difference) -> str:
    return f"{_size(entry.value)}, difference {_size(entry.difference, signed=True)}, {entry.direction}"


def _size(estimate: Estimate, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    value = f"{estimate.value:{sign}.{DIGITS}g}"
    if estimate.se is None or not math.isfinite(estimate.se):
        return value
    interval = "" if estimate.interval is None else f" (95% interval ± {estimate.interval:.2g})"
    return f"{value} ± {estimate.se:.2g}{interval}"
