"""Agents by name. To add an agent, write a package with its kind, and add an entry here."""

from __future__ import annotations

from poise_git.agents.anthropic import Anthropic
from poise_git.agents.human import Human
from poise_git.agents.interface import AgentEnvironment, AgentKind, ExpectedCalls, Workload
from poise_git.agents.library import Library
from poise_git.errors import UsageError

__all__ = ["AGENTS", "AgentEnvironment", "ExpectedCalls", "Workload", "agent_named"]

AGENTS: dict[str, AgentKind] = {kind.name: kind for kind in (Anthropic(), Human(), Library())}


def agent_named(name: str) -> AgentKind:
    """The kind of agent with this name. Raises UsageError for an unknown name."""
    if name not in AGENTS:
        raise UsageError(f"no agent {name!r}: choose one of {', '.join(sorted(AGENTS))}")
    return AGENTS[name]
