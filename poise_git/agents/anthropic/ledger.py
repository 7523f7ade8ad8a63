"""The cost of calls, and the budget: a call is made only if its worst case fits into the rest of the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from poise_git.agents.anthropic.messages import Request, Usage
from poise_git.archive.entries import Call
from poise_git.errors import BudgetReached, UsageError
from poise_git.settings import Price

MILLION = 1_000_000


def cost(usage: Usage, price: Price) -> float:
    """US dollars: each kind of tokens at its own price."""
    return (
        usage.input_tokens * price.input
        + (usage.cache_creation_input_tokens or 0) * price.cache_write
        + (usage.cache_read_input_tokens or 0) * price.cache_read
        + usage.output_tokens * price.output
    ) / MILLION


def worst_case(request: Request, price: Price) -> float:
    """The largest possible cost of a call in US dollars: all its input at the higher price, and the longest reply."""
    dearest = max(price.input, price.cache_write, price.cache_read)
    return (request.most_input_tokens * dearest + request.max_tokens * price.output) / MILLION


class Ledger:
    """The calls of one process. `spent` is the cost of the archive so far, `budget` its limit, in US dollars.

    A reservation holds a call's worst case until its cost is known, so that concurrent calls cannot overspend together.
    """

    def __init__(self, prices: Mapping[str, Price], budget: float | None = None, spent: float = 0.0) -> None:
        self.prices, self.budget, self.spent, self.reserved = prices, budget, spent, 0.0
        self._calls: dict[str, Call] = {}

    def reserve(self, request: Request) -> float | None:
        """Reserve the worst case of `request`; None if the budget has no room for it.

        Raises:
            UsageError: there is a budget, and the model has no price.
        """
        if self.budget is None:
            return 0.0
        worst = self._worst_case(request)
        if not self.spent + self.reserved + worst <= self.budget:
            return None
        self.reserved += worst
        return worst

    def release(self, reserved: float) -> None:
        self.reserved = max(self.reserved - reserved, 0.0)

    def exhausted(self, request: Request) -> BudgetReached:
        """The reason why `request` is not made."""
        left = max((self.budget or 0.0) - self.spent, 0.0)
        return BudgetReached(
            f"the next call ({request.operator}) may cost up to ${self._worst_case(request):.2g}, and ${left:.2g} of "
            f"the budget of ${self.budget:g} is left; to continue, run the same command with a larger --budget-usd"
        )

    def enter(self, call: Call) -> None:
        """Record a paid call. A recorded reply costs nothing, because its author has paid for it."""
        if call.key not in self._calls and not call.replayed:
            self.spent += call.usd or 0.0
        self._calls[call.key] = call

    def attribute(self, subject: str, to: str) -> None:
        """Rename the subject of calls from `subject` to `to`, once the name is known."""
        for key, call in self._calls.items():
            if call.subject == subject:
                self._calls[key] = replace(call, subject=to)

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(self._calls.values())

    def entry(self, request: Request, usage: Usage, seconds: float, outcome: str) -> Call:
        price = self.prices.get(request.model)
        return Call(
            key=request.key,
            operator=request.operator,
            subject=request.subject,
            model=request.model,
            prompt=request.prompt,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cache_read_input_tokens or 0,
            written_tokens=usage.cache_creation_input_tokens or 0,
            usd=None if price is None else cost(usage, price),
            seconds=round(seconds, 3),
            outcome=outcome,
        )

    def _worst_case(self, request: Request) -> float:
        if request.model not in self.prices:
            raise UsageError(
                f"poise.yaml: anthropic.prices has no {request.model}, so --budget-usd cannot be checked; add it there"
            )
        return worst_case(request, self.prices[request.model])
