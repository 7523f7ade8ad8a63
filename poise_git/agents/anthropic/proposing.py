"""The operators before implementation: propose, one call per direction and all at once, and screen."""

from __future__ import annotations

from collections.abc import Sequence

from poise_git.agents.anthropic.replies import OpinionAnswer, OpinionsAnswer, ProposalAnswer
from poise_git.agents.anthropic.session import Session
from poise_git.agents.library.naming import unique
from poise_git.archive.entries import Direction, Proposal
from poise_git.errors import ReplyUnusable
from poise_git.pipeline.checks.claims import CLAIM_KINDS, Decided
from poise_git.search.context.context import Context
from poise_git.search.context.rendering import Renderer
from poise_git.search.proposals.screening import Opinion

CONTEXT = "context.md.j2"
# The score of a neutral opinion, which replaces a missing one: no objection and no support.
INDIFFERENT = 0.5


def propose(
    session: Session, agent: str, context: Context, directions: Sequence[Direction], seed: int
) -> tuple[Proposal, ...]:
    """One proposal per direction, except those whose reply was unusable."""
    by_code = [kind.name for kind in CLAIM_KINDS if kind.decided is Decided.BY_CODE]
    parent, told = context.parent.candidate.name, _told(session, context)
    subjects = [f"{parent}/{seed}/{place}" for place in range(len(directions))]
    questions = [
        session.question(
            "propose",
            subject,
            session.prompts.render("propose.md.j2", parent=parent, direction=direction, by_code=by_code),
            shared=told,
            occasion=f"{seed}/{place}",
        )
        for place, (subject, direction) in enumerate(zip(subjects, directions, strict=True))
    ]
    proposals: list[Proposal] = []
    taken = set(context.taken_names)
    for subject, direction, outcome in zip(
        subjects, directions, session.ask_all(questions, ProposalAnswer), strict=True
    ):
        if isinstance(outcome, ReplyUnusable):
            continue
        proposal = _proposal(outcome.answer, agent, parent, direction, taken)
        session.ledger.attribute(subject, proposal.name)
        taken.add(proposal.name)
        proposals.append(proposal)
    return tuple(proposals)


def screen(session: Session, context: Context, proposals: Sequence[Proposal]) -> tuple[Opinion, ...]:
    """One opinion on each proposal; a neutral one if no reply was usable."""
    if not proposals:
        return ()
    names = [proposal.name for proposal in proposals]
    task = session.prompts.render("screen.md.j2", parent=context.parent.candidate.name, proposals=proposals)
    question = session.question("screen", "", task, shared=_told(session, context))

    def objection(answer: OpinionsAnswer) -> str:
        given = [opinion.name for opinion in answer.opinions]
        return "" if sorted(given) == sorted(names) else f"opinions: give one on each of {', '.join(names)}"

    try:
        answered = session.ask(question, OpinionsAnswer, objection)
    except ReplyUnusable as failure:
        return tuple(_without_opinion(failure.reason) for _ in names)
    by_name = {opinion.name: opinion for opinion in answered.answer.opinions}
    return tuple(
        _opinion(by_name[name]) if name in by_name else _without_opinion("the model gave none") for name in names
    )


def _told(session: Session, context: Context) -> str:
    return Renderer(session.prompts.source(CONTEXT)).render(context)


def _proposal(answer: ProposalAnswer, agent: str, parent: str, direction: Direction, taken: set[str]) -> Proposal:
    return Proposal(
        name=unique(answer.name, taken),
        parent=parent,
        mechanism=answer.mechanism.strip(),
        hypothesis=answer.hypothesis.strip(),
        family=answer.family,
        agent=agent,
        knobs=answer.knobs,
        claims=tuple(claim.to_claim() for claim in answer.claims),
        priors=tuple(dict.fromkeys(answer.priors)),
        plan={"steps": answer.steps},
        direction=Direction(direction.kind, direction.name, direction.reason, answer.departure),
    )


def _opinion(answer: OpinionAnswer) -> Opinion:
    return Opinion(answer.consistency, answer.feasibility, answer.improvement, answer.accepted, answer.reason)


def _without_opinion(why: str) -> Opinion:
    return Opinion(INDIFFERENT, INDIFFERENT, INDIFFERENT, True, f"no opinion: {why}")
