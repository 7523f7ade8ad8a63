"""Make every call in this order: find a recorded reply, reserve budget, call the service, enter the ledger, record."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from poise_git.agents.anthropic.ledger import Ledger
from poise_git.agents.anthropic.messages import Reply, Request, Usage
from poise_git.agents.anthropic.recordings import Recorded, Recordings
from poise_git.agents.anthropic.service import Connection, Interrupted
from poise_git.errors import ReplyUnusable, ServiceFailed

# A broken-off reply is requested once more, because the SDK retries requests but not streams.
ATTEMPTS = 2
OK = "ok"
NOTHING = Usage(input_tokens=0, output_tokens=0)
TOO_LONG = ("max_tokens", "model_context_window_exceeded")


class Caller:
    """Calls within one event loop, at most `parallel` at a time; `connection` is None if only recordings answer."""

    def __init__(self, connection: Connection | None, recordings: Recordings, ledger: Ledger, parallel: int) -> None:
        self._connection, self._recordings, self._ledger = connection, recordings, ledger
        self._room, self._settled = asyncio.Semaphore(parallel), asyncio.Condition()

    async def call(self, request: Request) -> Reply:
        """The complete reply to a request.

        Raises:
            BudgetReached: the call was not made, because it might cost more than the rest of the budget.
            ReplyUnusable: the model refused, the reply was too long, or it broke off twice.
            ServiceFailed: the service does not answer.
        """
        async with self._room:
            recorded = self._recordings.find(request)
            if recorded is None:
                recorded = await self._ask(request)
            else:
                entry = self._ledger.entry(request, recorded.reply.usage, recorded.seconds, outcome(recorded.reply))
                self._ledger.enter(replace(entry, replayed=self._recordings.replaying))
        if (found := outcome(recorded.reply)) != OK:
            raise ReplyUnusable(request.operator, found)
        return recorded.reply

    async def _ask(self, request: Request) -> Recorded:
        if self._connection is None:
            raise ServiceFailed("no service is configured, only recordings")
        reason = ""
        for attempt in range(ATTEMPTS):
            reserved, began = await self._reserve(request), time.monotonic()
            try:
                recorded = Recorded(await self._connection.send(request), time.monotonic() - began)
                self._recordings.keep(request, recorded)
                self._ledger.enter(
                    self._ledger.entry(request, recorded.reply.usage, recorded.seconds, outcome(recorded.reply))
                )
                return recorded
            except Interrupted as interruption:
                reason, seconds = interruption.reason, time.monotonic() - began
                entry = self._ledger.entry(request, interruption.usage or NOTHING, seconds, reason)
                self._ledger.enter(replace(entry, key=f"{entry.key}-{attempt}"))
            finally:
                await self._release(reserved)
        raise ReplyUnusable(request.operator, reason)

    async def _reserve(self, request: Request) -> float:
        """Reserve a call's worst case. If it does not fit, wait for the calls in progress, which usually cost less."""
        async with self._settled:
            while (reserved := self._ledger.reserve(request)) is None:
                if not self._ledger.reserved:
                    raise self._ledger.exhausted(request)
                await self._settled.wait()
        return reserved

    async def _release(self, reserved: float) -> None:
        async with self._settled:
            self._ledger.release(reserved)
            self._settled.notify_all()


def outcome(reply: Reply) -> str:
    """The outcome of a reply: `OK`, or a failure that begins with the name of its `stop_reason`."""
    if reply.stop_reason == "refusal":
        details = reply.stop_details
        said = ": ".join(filter(None, (details.category, details.explanation))) if details else ""
        return f"refusal: {said or 'without a reason'}"
    if reply.stop_reason in TOO_LONG:
        return f"{reply.stop_reason}: the reply exceeds anthropic.max_tokens in poise.yaml"
    return OK
