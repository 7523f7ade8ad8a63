"""Agents by name: who has the ideas. Adding one is a new package and a line here."""

from __future__ import annotations

from collections.abc import Callable

from poise_git.agents.interface import Agent
from poise_git.errors import UsageError


def _library() -> Agent:
    from poise_git.agents.library import LibraryAgent

    return LibraryAgent()


AGENTS: dict[str, Callable[[], Agent]] = {"library": _library}


def agent_named(name: str) -> Agent:
    """Raises UsageError for an unknown name."""
    if name not in AGENTS:
        raise UsageError(f"no agent {name!r}: choose one of {', '.join(sorted(AGENTS))}")
    return AGENTS[name]()
