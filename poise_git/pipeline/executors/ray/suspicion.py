"""Find the run that exhausts a machine's memory and takes the board down with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ray.exceptions import OutOfMemoryError

from poise_git.pipeline.executors.ray.orders import OUT_OF_MEMORY_LIMIT
from poise_git.pipeline.interface import Progress


class Suspicion:
    """The runs, by key, that may have exhausted a machine's memory. A lost board cannot tell which of them did.

    Ray ends the youngest process of a machine that is short of memory, which is a run. Memory takes a while to become
    free, and until then Ray may end the board too. So the interrupted runs start again one at a time. A run is the
    culprit if it alone loses the board as often as a run may run out of memory.
    """

    def __init__(self) -> None:
        self._stages: dict[str, str] = {}
        self._losses: dict[str, int] = {}

    def hear(self, key: str, progress: Progress) -> None:
        self._stages[key] = progress.stage

    def clear(self, keys: Iterable[str]) -> None:
        """Record that these have ended."""
        for key in keys:
            self._stages.pop(key, None)
            self._losses.pop(key, None)

    def admitted(self, keys: Collection[str]) -> list[str]:
        """The ones of `keys` that may run now: all of them, or the first suspect."""
        return [key for key in keys if key in self._losses][:1] or list(keys)

    def record(self, keys: Collection[str]) -> str | None:
        """The board was lost to out-of-memory while it had `keys`; return the culprit, if known."""
        under_way = [key for key in keys if key in self._stages] or list(keys)
        for key in under_way:
            self._losses[key] = self._losses.get(key, 0) + (len(under_way) == 1)
        return next((key for key in under_way if self._losses[key] >= OUT_OF_MEMORY_LIMIT), None)

    def stage_of(self, key: str) -> str:
        return "evaluate" if self._stages.get(key) == "evaluate" else "train"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that Ray ended a task because its machine was short of memory."""
    return isinstance(error, OutOfMemoryError) or "low on memory" in str(error)
