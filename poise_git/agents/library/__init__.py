"""The embedded agent: recombines and mutates mechanisms of literature cards, with no language model."""

from poise_git.agents.library.agent import LibraryAgent

__all__ = ["LibraryAgent"]
