"""The board owns the tasks of one archive's search, and keeps their results until a driver has archived them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import exceptions
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from poise_git.pipeline.executors.ray import tasks
from poise_git.pipeline.executors.ray.orders import (
    OUT_OF_MEMORY_LIMIT,
    Broken,
    Done,
    Ended,
    Failed,
    Figures,
    News,
    Order,
    in_one_line,
)
from poise_git.pipeline.executors.stages import claim_of
from poise_git.pipeline.interface import Evaluated, Progress, Resources
from poise_git.pipeline.sandbox.removal import remove_tree

# The errors with which Ray reports tasks whose machine or process died.
LOSSES = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.ObjectLostError,
    exceptions.TaskPlacementGroupRemoved,
)
# Seconds for a machine to free the memory of an ended task.
_RECOVERY = 5.0
# Seconds for a stage to end its processes before its worker is killed.
_PATIENCE = 15.0


@dataclass
class _Work:
    order: Order
    running: list[Any] = field(default_factory=list)
    stage: str = "train"
    ended: Ended | None = None
    progress: dict[str, Progress] = field(default_factory=dict)
    carrier: asyncio.Task[None] | None = None


class Board:
    """An asynchronous Ray actor; its methods run one at a time.

    `attempts` limits the starts of a run that loses its machine. `at_once` limits the number of parallel runs (None: as
    many as the cluster holds).
    """

    def __init__(self, attempts: int, at_once: int | None) -> None:
        self._attempts = attempts
        self._slots = asyncio.Semaphore(at_once) if at_once else None
        self._work: dict[str, _Work] = {}
        self._changed = asyncio.Event()
        self._begun = {"train": 0, "evaluate": 0}
        self._me = ray.get_runtime_context().current_actor

    async def start(self, orders: Sequence[Order]) -> None:
        """Start orders that the board does not have yet, and stop those that a driver no longer wants."""
        wanted = {order.key for order in orders}
        await self.cancel([key for key, work in self._work.items() if key not in wanted and work.ended is None])
        for order in orders:
            # A run that a broken cluster ended may start again, because the candidate did not fail.
            if order.key not in self._work or isinstance(self._work[order.key].ended, Broken):
                work = self._work[order.key] = _Work(order)
                work.carrier = asyncio.create_task(self._carry_out(work))

    async def news(self, keys: Collection[str], patience: float) -> News:
        """Return the finished ones of `keys` and the newest progress; wait up to `patience` seconds for some."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), patience)
        self._changed.clear()
        known = [(key, self._work[key]) for key in keys if key in self._work]
        progress = tuple((key, one) for key, work in known for one in work.progress.values())
        for _, work in known:
            work.progress.clear()
        return News({key: work.ended for key, work in known if work.ended is not None}, progress)

    async def report(self, key: str, progress: Progress) -> None:
        if key in self._work:
            self._work[key].progress[progress.stage] = progress
            self._changed.set()

    async def cancel(self, keys: Collection[str]) -> None:
        """Stop these and forget them; return when their processes are gone."""
        await asyncio.gather(*(self._cancel(self._work[key]) for key in keys if key in self._work))
        await self.forget(keys)

    async def forget(self, keys: Collection[str]) -> None:
        """Forget these, with their results."""
        for key in keys:
            work = self._work.pop(key, None)
            if work is not None and work.order.shared:
                await asyncio.to_thread(remove_tree, Path(work.order.shared))

    async def begun(self) -> dict[str, int]:
        """The number of tasks of each stage that have started since the board was created."""
        return dict(self._begun)

    async def _cancel(self, work: _Work) -> None:
        if work.carrier is not None:
            work.carrier.cancel()
        for force in (False, True):
            for reference in work.running:
                with suppress(ValueError):
                    ray.cancel(reference, force=force)
            if await self._are_over(work.running):
                return

    async def _are_over(self, references: Sequence[Any]) -> bool:
        waiting = [asyncio.wrap_future(reference.future()) for reference in references]
        return not waiting or not (await asyncio.wait(waiting, timeout=_PATIENCE))[1]

    async def _carry_out(self, work: _Work) -> None:
        if self._slots is None:
            work.ended = await self._attempt(work)
        else:
            async with self._slots:
                work.ended = await self._attempt(work)
        self._changed.set()

    async def _attempt(self, work: _Work) -> Ended:
        out_of_memory = 0
        reason = ""
        for _ in range(self._attempts):
            work.running.clear()
            try:
                return await self._train_and_evaluate(work)
            except exceptions.OutOfMemoryError as error:
                out_of_memory += 1
                reason = in_one_line(error)
                if out_of_memory == OUT_OF_MEMORY_LIMIT:
                    return Failed.out_of_memory(work.stage, reason)
                await asyncio.sleep(_RECOVERY)
            except LOSSES as error:
                reason = in_one_line(error)
            except Exception as error:
                cause = getattr(error, "cause", error)
                return Broken(f"{work.order.candidate} on seed {work.order.seed}: {in_one_line(cause)}")
        return Broken(
            f"{work.order.candidate} on seed {work.order.seed} lost its worker {self._attempts} times, last: {reason}"
        )

    async def _train_and_evaluate(self, work: _Work) -> Ended:
        order = work.order
        async with _placement(claim_of(order.demand)) as placement:
            work.stage = "train"
            figures_reference, parcel = self._submit(
                work, tasks.train, order.demand.training, placement, 2, order, self._me
            )
            figures: Figures | Failed = await figures_reference
            if isinstance(figures, Failed):
                return figures
            work.stage = "evaluate"
            shards = [
                self._submit(
                    work, tasks.evaluate, order.demand.evaluation, placement, 1, order, figures, parcel, shard, self._me
                )
                for shard in order.shards
            ]
            evaluated: list[Evaluated] = []
            try:
                for reference in shards:
                    result: Evaluated | Failed = await reference
                    if isinstance(result, Failed):
                        return result
                    evaluated.append(result)
            finally:
                for reference in shards[len(evaluated) + 1 :]:
                    ray.cancel(reference)
        return Done(figures, tuple(evaluated))

    def _submit(
        self, work: _Work, task: Any, needs: Resources, placement: dict[str, Any], returns: int, *arguments: Any
    ) -> Any:
        """Submit a task; return its reference or references. Ray never retries it, as it cannot tell why it ended."""
        self._begun[work.stage] += 1
        remote = ray.remote(task).options(
            name=f"{work.stage} {work.order.candidate} {work.order.seed}",
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            num_returns=returns,
            max_retries=0,
            **placement,
        )
        references = remote.remote(*arguments)
        work.running.append(references[0] if returns > 1 else references)
        return references


@asynccontextmanager
async def _placement(claim: Resources) -> AsyncIterator[dict[str, Any]]:
    """Options for tasks that use several GPUs together: one machine, reserved from training to evaluation."""
    if claim.gpus < 2:
        yield {}
        return
    group = placement_group([{"CPU": claim.cpus, "GPU": float(claim.gpus)}], strategy="STRICT_PACK")
    try:
        await group.ready()
        yield {"scheduling_strategy": PlacementGroupSchedulingStrategy(group)}
    finally:
        remove_placement_group(group)
