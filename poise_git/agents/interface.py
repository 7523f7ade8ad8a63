"""The boundary between the loop and whoever has the ideas: one agent, the operators of the method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol as Interface

from poise_git.analysis.evidence import Evidence
from poise_git.archive.entries import Direction, Proposal, Reflection
from poise_git.errors import CheckFailed
from poise_git.search.context import Context
from poise_git.search.screening import Opinion


class Agent(Interface):
    """Proposes, screens, implements, repairs and reflects.

    Contract: operators never write to the archive, never run a candidate's code in this process, and are
    deterministic where the agent is (the library agent is; a language model is not).
    """

    name: str

    def propose(self, context: Context, directions: Sequence[Direction], seed: int) -> tuple[Proposal, ...]:
        """At most one proposal for each direction, for a child of `context.parent`, in the order of the directions.

        Each carries its direction, with a `departure` where it goes elsewhere, and a name that is neither in
        `context.taken_names` nor another's. Fewer, or none, when the agent runs out of ideas. `context.rejected` says
        what was refused for this parent in this round already, and why.
        """
        ...

    def screen(self, context: Context, proposals: Sequence[Proposal]) -> tuple[Opinion, ...]:
        """What the agent makes of each proposal, in their order, before any is implemented."""
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
