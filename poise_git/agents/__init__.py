"""Agents by name: who has the ideas. Adding one is a new package and a line here."""

from __future__ import annotations

from collections.abc import Callable

from poise_git.agents.interface import Agent, ExpectedCalls, Means, Workload
from poise_git.errors import UsageError
from poise_git.settings import PoiseSettings

__all__ = ["AGENTS", "ExpectedCalls", "Means", "Workload", "agent_named", "expected_calls"]


def _library(means: Means) -> Agent:
    from poise_git.agents.library import LibraryAgent

    return LibraryAgent()


def _anthropic(means: Means) -> Agent:
    from poise_git.agents.anthropic import AnthropicAgent

    return AnthropicAgent.of(means)


def _human(means: Means) -> Agent:
    from poise_git.agents.human import HumanAgent

    return HumanAgent(means.archive, means.observe, means.budget_hours)


AGENTS: dict[str, Callable[[Means], Agent]] = {"anthropic": _anthropic, "human": _human, "library": _library}


def agent_named(name: str, means: Means) -> Agent:
    """Raises UsageError for an unknown name, and for settings that the agent cannot work by."""
    if name not in AGENTS:
        raise unknown_agent(name)
    return AGENTS[name](means)


def expected_calls(name: str, workload: Workload, settings: PoiseSettings) -> tuple[ExpectedCalls, ...]:
    """What the agent will pay for, by operator; nothing for an agent that makes no paid calls.

    Raises:
        UsageError: an unknown name.
    """
    if name not in AGENTS:
        raise unknown_agent(name)
    if name != "anthropic":
        return ()
    from poise_git.agents.anthropic.estimating import expected_calls as of_anthropic

    return of_anthropic(workload, settings.anthropic)


def unknown_agent(name: str) -> UsageError:
    return UsageError(f"no agent {name!r}: choose one of {', '.join(sorted(AGENTS))}")
