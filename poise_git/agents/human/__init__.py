"""People, and coding agents, whose tool is plain git."""

from poise_git.agents.human.agent import HumanAgent

__all__ = ["HumanAgent"]
