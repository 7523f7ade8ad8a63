"""The operators that write code or review it: implement, verify, repair, resolve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from poise_git.agents.anthropic.editing import CHECK, edited
from poise_git.agents.anthropic.replies import CodeAnswer, ReadingAnswer
from poise_git.agents.anthropic.session import Session
from poise_git.agents.interface import CodeReview, Side
from poise_git.archive.entries import Proposal
from poise_git.errors import CheckFailed, ReplyUnusable


def implement(session: Session, proposal: Proposal, source: str) -> str:
    """The child's text; `source` is its parent's.

    Raises:
        CheckFailed: `implement`: no reply is usable, or no reply fits the parent's text.
    """
    return _written(session, "implement", proposal, source)


def repair(session: Session, proposal: Proposal, source: str, failure: CheckFailed) -> str | None:
    """The repaired text; None if no reply was usable."""
    try:
        return _written(session, "repair", proposal, source, failure=failure)
    except CheckFailed:
        return None


def resolve(session: Session, proposal: Proposal, ours: Side, theirs: Side, source: str) -> str:
    """The text of a crossover whose parents conflict; `source` is the text of `ours`.

    Raises:
        CheckFailed: `implement`, as above.
    """
    return _written(session, "resolve", proposal, source, ours=ours, theirs=theirs)


def verify(session: Session, proposal: Proposal, source: str, change: str) -> CodeReview:
    """A code review by a model that did not write the code; without a usable reply it raises no objection."""
    task = session.prompts.render("verify.md.j2", proposal=proposal, source=source, change=change)
    try:
        answer = session.ask(session.question("verify", proposal.name, task), ReadingAnswer).answer
    except ReplyUnusable as failure:
        return CodeReview(True, f"no code review: {failure.reason}", ())
    stated = {claim.statement for claim in proposal.claims}
    return CodeReview(answer.implements, answer.reason, tuple(name for name in answer.unproven if name in stated))


def _written(session: Session, operator: str, proposal: Proposal, source: str, **values: Any) -> str:
    task = session.prompts.render(f"{operator}.md.j2", proposal=proposal, source=source, **values)
    try:
        answered = session.ask(session.question(operator, proposal.name, task), CodeAnswer, _objection(source))
    except ReplyUnusable as failure:
        raise CheckFailed(CHECK, failure.reason) from failure
    return edited(source, answered.answer)


def _objection(source: str) -> Callable[[CodeAnswer], str]:
    def objection(answer: CodeAnswer) -> str:
        try:
            edited(source, answer)
        except CheckFailed as failure:
            return failure.reason
        return ""

    return objection
