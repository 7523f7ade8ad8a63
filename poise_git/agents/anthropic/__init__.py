"""A language model behind the Messages API."""

from __future__ import annotations

from poise_git.agents.interface import Agent, AgentEnvironment, AgentKind, ExpectedCalls, Workload
from poise_git.settings import PoiseSettings


class Anthropic(AgentKind):
    """See `AgentKind`."""

    name = "anthropic"

    def open(self, environment: AgentEnvironment) -> Agent:
        from poise_git.agents.anthropic.agent import AnthropicAgent

        return AnthropicAgent.of(environment)

    def expected_calls(self, workload: Workload, settings: PoiseSettings) -> tuple[ExpectedCalls, ...]:
        from poise_git.agents.anthropic.estimating import expected_calls

        return expected_calls(workload, settings.anthropic)
