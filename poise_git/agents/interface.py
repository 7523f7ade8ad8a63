"""The boundary between the loop and whoever has the ideas: one agent, five operators of the method."""

from __future__ import annotations

from typing import Protocol as Interface

from poise_git.analysis.evidence import Evidence
from poise_git.archive.entries import Proposal, Reflection
from poise_git.errors import CheckFailed
from poise_git.search.context import Context


class Agent(Interface):
    """Proposes, implements, repairs and reflects.

    Contract: operators never write to the archive, never run a candidate's code in this process, and are
    deterministic where the agent is (the library agent is; a language model is not).
    """

    name: str

    def propose(self, context: Context, count: int, seed: int) -> tuple[Proposal, ...]:
        """At most `count` proposals for a child of `context.parent`, each named differently from
        `context.taken_names` and from each other; fewer, or none, when the agent runs out of ideas."""
        ...

    def implement(self, proposal: Proposal, context: Context) -> str:
        """The text of the child's `recipe/algorithm.py`.

        Raises:
            CheckFailed: the proposal cannot be written on top of this parent.
        """
        ...

    def repair(self, proposal: Proposal, source: str, failure: CheckFailed, context: Context) -> str | None:
        """A mended `source`, or None when the agent does not know how."""
        ...

    def reflect(self, proposal: Proposal, evidence: Evidence) -> Reflection:
        """The diagnosis of a trained candidate: what moved, which claim held, what to try next."""
        ...
