"""People and coding agents, who work with plain git."""

from __future__ import annotations

from poise_git.agents.interface import Agent, AgentEnvironment, AgentKind


class Human(AgentKind):
    """See `AgentKind`."""

    name = "human"

    def open(self, environment: AgentEnvironment) -> Agent:
        from poise_git.agents.human.agent import HumanAgent

        return HumanAgent(environment.archive, environment.observe, environment.budget_hours)
