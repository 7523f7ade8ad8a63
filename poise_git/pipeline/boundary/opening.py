"""Open a candidate from a trusted child process, with or without the boundary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from poise_git.pipeline.boundary.algorithm import GuardedAlgorithm
from poise_git.pipeline.boundary.door import TRUSTED_RECIPE, Door
from poise_git.pipeline.boundary.in_process import InProcess
from poise_git.pipeline.boundary.process import CandidateProcess
from poise_git.pipeline.sandbox.child import FIRST_HANDED


@cache
def handed_door() -> Door:
    """The door whose descriptor this child received."""
    return Door(FIRST_HANDED)


def trusted_algorithm(recipe: Mapping[str, str], seed: int = 0) -> GuardedAlgorithm:
    """The candidate of this recipe in the calling process itself. Raises CandidateFailed."""
    return GuardedAlgorithm(InProcess(recipe), None, seed)


@contextmanager
def open_algorithm(arguments: Mapping[str, Any], seed: int) -> Iterator[GuardedAlgorithm]:
    """Open the candidate of this child afresh, without state of an earlier opening. Raises CandidateFailed."""
    if arguments.get(TRUSTED_RECIPE):
        yield trusted_algorithm(arguments[TRUSTED_RECIPE], seed)
        return
    door = handed_door()
    algorithm = GuardedAlgorithm(CandidateProcess.opened(door), CandidateProcess.opened(door), seed)
    try:
        yield algorithm
    finally:
        algorithm.close()
