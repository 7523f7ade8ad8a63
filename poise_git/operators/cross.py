"""Crossover: merge two candidates' mechanisms into one child with git; the agent resolves conflicts."""

from __future__ import annotations

from functools import partial

from poise_git.agents.interface import Side
from poise_git.archive.entries import ROOT, Candidate, Claim, Proposal
from poise_git.archive.genealogy import Genealogy
from poise_git.errors import CheckFailed, UsageError
from poise_git.pipeline.recipe import ALGORITHM
from poise_git.search.context.item_text import change_text
from poise_git.steps.session import Session
from poise_git.steps.verify import verify

FAMILY = "crossover"


def cross(session: Session, first: Candidate, second: Candidate, name: str) -> bool:
    """Make the candidate `name`, a merge commit of the two; returns whether it has passed the checks.

    Raises:
        UsageError: one descends from the other.
        CheckFailed: `implement`: their changes conflict, and the agent cannot resolve it.
    """
    genealogy = session.genealogy
    base = common_ancestor(genealogy, first, second)
    ours, theirs, before = (session.archive.recipe(each.name)[ALGORITHM] for each in (first, second, base))
    proposal = Proposal(
        name=name,
        parent=first.name,
        second_parent=second.name,
        mechanism=f"{first.mechanism}; and {second.mechanism}",
        hypothesis=f"The mechanisms of {first.name} and {second.name}, changes from {base.name}, add up.",
        family=FAMILY,
        agent=session.agent.name,
        claims=(Claim("Utility rises against the parent.", "effect", {"figure": "utility", "direction": "up"}),),
        priors=tuple(dict.fromkeys((*first.priors, *second.priors))),
    )
    source = session.archive.merge(before, ours, theirs)
    if source is None:
        left, right = (Side(each.name, change_text(before, text)) for each, text in ((first, ours), (second, theirs)))
        source = session.agent.resolve(proposal, left, right, ours)
    if source in (ours, theirs):
        raise CheckFailed("implement", f"{first.name} and {second.name} merge into one of them: the other adds nothing")
    context = partial(session.context, first.name, session.experiment.settings.seed)
    return verify(session, proposal, source, context)


def common_ancestor(genealogy: Genealogy, first: Candidate, second: Candidate) -> Candidate:
    """The nearest common ancestor.

    Raises UsageError if one is the other's ancestor, or they are the same.
    """
    lines = [{*(each.name for each in genealogy.ancestors(one.name)), one.name} for one in (first, second)]
    shared = lines[0] & lines[1]
    for one, other in ((first, second), (second, first)):
        if one.name in shared:
            what = "is" if one.name == other.name else "descends from"
            raise UsageError(
                f"{other.name} {what} {one.name}; there is nothing to merge; name candidates of two lineages"
            )
    return genealogy[max(shared, key=lambda name: (genealogy.depth(name), name))] if shared else genealogy[ROOT]
