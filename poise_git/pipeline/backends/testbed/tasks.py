"""Tasks by name."""

from __future__ import annotations

from poise_git.pipeline.backends.testbed.settings import ArithmeticChainSettings, RegimeSettings
from poise_git.pipeline.backends.testbed.task import Task


def build_task(settings: RegimeSettings, world: int) -> Task:
    """Build the settings' task in the world drawn with seed `world`.

    Raises:
        UsageError: a package for the task is not installed, or the task has no such data set or no training prompts.
    """
    if isinstance(settings.task, ArithmeticChainSettings):
        from poise_git.pipeline.backends.testbed.arithmetic import ArithmeticChain

        return ArithmeticChain(world, settings.task)
    from poise_git.pipeline.backends.testbed.reasoning_gym import ReasoningGym

    return ReasoningGym(world, settings.task)
