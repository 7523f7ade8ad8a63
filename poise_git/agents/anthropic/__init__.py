"""The `anthropic` agent: a language model behind the Messages API."""

from __future__ import annotations

from poise_git.agents.anthropic.agent import AnthropicAgent

__all__ = ["AnthropicAgent"]
