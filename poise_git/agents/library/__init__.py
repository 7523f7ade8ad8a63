"""The embedded agent: recombines and mutates mechanisms of literature cards, with no language model."""

from __future__ import annotations

from poise_git.agents.interface import Agent, AgentEnvironment, AgentKind


class Library(AgentKind):
    """See `AgentKind`."""

    name = "library"

    def open(self, environment: AgentEnvironment) -> Agent:
        from poise_git.agents.library.agent import LibraryAgent

        return LibraryAgent()
