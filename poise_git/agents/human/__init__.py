"""People and coding agents, who work with plain git."""

from __future__ import annotations

from poise_git.agents.interface import Agent, AgentKind, Means


class Human(AgentKind):
    """See `AgentKind`."""

    name = "human"

    def open(self, means: Means) -> Agent:
        from poise_git.agents.human.agent import HumanAgent

        return HumanAgent(means.archive, means.observe, means.budget_hours)
