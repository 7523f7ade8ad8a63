"""Estimate the calls of a search and their cost before the first call, from stated assumptions."""

from __future__ import annotations

from collections.abc import Iterator

from poise_git.agents.interface import ExpectedCalls, Workload
from poise_git.settings import AnthropicSettings, Price

# Tokens of the rules with the tool, of a candidate's own texts (proposal, code, evidence), and of a small context.
RULES, OWN, SMALL_CONTEXT = 3500, 4000, 6000
# Tokens of an answer, without and with the thinking before it.
ANSWER, THOUGHTFUL_ANSWER = 800, 5000
LESSON = 600


def expected_calls(workload: Workload, settings: AnthropicSettings) -> tuple[ExpectedCalls, ...]:
    """Calls of each operator and US dollars, from the best case (every first attempt passes) to the worst (every
    resample and repair is used, and each reply is sent back once). The prompt cache is ignored."""
    price = settings.prices.get(settings.model)
    return tuple(_expected(workload, price))


def _expected(workload: Workload, price: Price | None) -> Iterator[ExpectedCalls]:
    attempts, children = 1 + workload.resamples, workload.candidates
    context = (SMALL_CONTEXT, workload.context_tokens)
    rows = (
        ("propose", children * workload.proposals, attempts * children * workload.proposals, context),
        ("screen", children, attempts * children, context),
        ("implement", children, attempts * children * workload.proposals, (OWN, OWN)),
        ("verify", children, (1 + workload.repairs) * children, (OWN, OWN)),
        ("repair", 0, workload.repairs * children, (OWN, OWN)),
        ("reflect", children, children, (OWN, OWN)),
        ("distill", *(2 * (max(workload.rounds - 1, 0) // workload.distill_every,)), (2 * LESSON, children * LESSON)),
    )
    for operator, few, many, (short, long) in rows:
        # Sending a reply back is one more call.
        yield ExpectedCalls(
            operator,
            few,
            2 * many,
            None if price is None else few * _usd(price, RULES + short, ANSWER),
            None if price is None else 2 * many * _usd(price, RULES + long, THOUGHTFUL_ANSWER),
        )


def _usd(price: Price, tokens_in: int, tokens_out: int) -> float:
    return (tokens_in * price.input + tokens_out * price.output) / 1_000_000
