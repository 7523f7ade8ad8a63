"""Translate a directive into an objective, before any proposal."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from poise_git.agents.anthropic.replies import ObjectiveAnswer
from poise_git.agents.anthropic.session import Session
from poise_git.archive.documents import dump_yaml
from poise_git.errors import ReplyUnusable
from poise_git.measurement.translation import Interpretation
from poise_git.settings import ObjectiveSettings

DIGITS = 4


def interpret(session: Session, directive: str, figures: Mapping[str, float]) -> Interpretation:
    """The model's translation, restricted to existing figures; without a usable reply, no objective and the reason."""
    known = tuple(figures)
    table = dump_yaml({name: float(f"{value:.{DIGITS}g}") for name, value in figures.items()})
    task = session.prompts.render("interpret.md.j2", directive=directive, figures=table)

    def objection(answer: ObjectiveAnswer) -> str:
        try:
            stated = _objective(answer)
        except ValidationError as error:
            return str(error.errors()[0]["msg"])
        named = {*stated.metrics, *(constraint.metric for constraint in stated.constraints)}
        return f"unknown figures: {', '.join(sorted(named - set(known)))}" if named - set(known) else ""

    try:
        answered = session.ask(session.question("interpret", "", task), ObjectiveAnswer, objection)
    except ReplyUnusable as failure:
        return Interpretation(None, (f"no usable reply: {failure.reason}",), (), known)
    answer = answered.answer
    if answered.objection or not (answer.metrics or answer.constraints):
        return Interpretation(None, (answered.objection or answer.explanation,), (), known)
    return Interpretation(_objective(answer), (answer.explanation,), (), known)


def _objective(answer: ObjectiveAnswer) -> ObjectiveSettings:
    """The answer as an objective. Raises pydantic.ValidationError for invalid weights or bounds."""
    constraints = [constraint.model_dump(exclude_none=True) for constraint in answer.constraints]
    metrics = {name: term.model_dump() for name, term in answer.metrics.items()}
    return ObjectiveSettings.model_validate({"metrics": metrics, "constraints": constraints})
