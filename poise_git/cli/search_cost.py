"""The expected calls, cost and time of a search, as text and as JSON. It starts and writes nothing."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from poise_git.agents import ExpectedCalls, Workload, agent_named
from poise_git.archive import Archive
from poise_git.archive.entries import ROOT
from poise_git.cli.common import print_json
from poise_git.cli.output import echo
from poise_git.errors import NotAnArchive, UsageError
from poise_git.experiment import SETTINGS_FILE, Experiment, protocol_file
from poise_git.package_data import template_files
from poise_git.pipeline.backends import backend_named
from poise_git.pipeline.estimate import CostEstimate
from poise_git.pipeline.protocol import Protocol
from poise_git.settings import PoiseSettings, load_settings
from poise_git.template import template_protocols

_WIDTH = 40


@dataclass(frozen=True)
class SearchRequest:
    """Goal and settings from the command line; None if not given."""

    candidates: int | None
    rounds: int | None
    parents: int | None
    proposals: int | None
    agent: str | None


def show_search_estimate(place: Path, protocol_name: str | None, asked: SearchRequest, *, as_json: bool) -> None:
    """Print the estimate for a search in the archive at `place`, or in a new one there."""
    settings, protocol, evaluated, has_root = _standing(place, protocol_name)
    agent = asked.agent or settings.agent
    workload = _workload(settings, asked, evaluated)
    calls = agent_named(agent).expected_calls(workload, settings)
    runs = workload.candidates * len(protocol.seeds) + (0 if has_root else len(protocol.seeds))
    runs += protocol.confirmation_runs
    run = backend_named(protocol.backend).estimate_cost(protocol, protocol_file(protocol.name))
    if as_json:
        print_json(_document(agent, workload, calls, runs, run))
        return
    echo(f"search    {workload.candidates} candidates in about {workload.rounds} rounds, agent {agent}")
    echo("\n".join([*_call_lines(calls), *_run_lines(runs, protocol, run)]))


def _standing(place: Path, protocol_name: str | None) -> tuple[PoiseSettings, Protocol, int, bool]:
    """Settings, protocol, number of evaluated candidates without the root, and whether the root is evaluated."""
    try:
        experiment = Experiment.load(Archive.open(place), protocol=protocol_name)
    except NotAnArchive:
        settings = load_settings(template_files()[SETTINGS_FILE], PoiseSettings, SETTINGS_FILE)
        shipped, name = template_protocols(), protocol_name or settings.protocol
        if name not in shipped:
            raise UsageError(f"no protocol {name!r}: choose one of {', '.join(sorted(shipped))}") from None
        return settings, shipped[name], 0, False
    evaluated = experiment.evaluated()
    return experiment.settings, experiment.protocol, len(evaluated.keys() - {ROOT}), ROOT in evaluated


def _workload(settings: PoiseSettings, asked: SearchRequest, evaluated: int) -> Workload:
    parents = asked.parents or settings.search.parents
    goal = 10 if asked.candidates is None and asked.rounds is None else asked.candidates
    left = math.inf if goal is None else max(goal - evaluated, 0)
    candidates = int(min(left, math.inf if asked.rounds is None else asked.rounds * parents))
    return Workload(
        rounds=math.ceil(candidates / parents),
        candidates=candidates,
        proposals=asked.proposals or settings.search.proposals,
        resamples=settings.search.resamples,
        repairs=settings.checks.repairs,
        distill_every=settings.search.distill_every,
        context_tokens=settings.search.context_tokens,
    )


def _document(
    agent: str, workload: Workload, calls: tuple[ExpectedCalls, ...], runs: int, run: CostEstimate
) -> dict[str, Any]:
    return {
        "agent": agent,
        "workload": asdict(workload),
        "calls": [asdict(entry) for entry in calls],
        "usd": {"low": _total(calls, "usd_low"), "high": _total(calls, "usd_high")},
        "runs": runs,
        "hours": [
            {"hardware": cost.hardware, "low": runs * cost.low, "high": runs * cost.high, "unit": cost.unit}
            for cost in run.costs
        ],
    }


def _call_lines(calls: tuple[ExpectedCalls, ...]) -> list[str]:
    if not calls:
        return ["calls     no paid calls"]
    lines = [
        f"  {entry.operator:<{_WIDTH}} {entry.low} to {entry.high} calls{_usd(entry.usd_low, entry.usd_high)}"
        for entry in calls
    ]
    few, many = sum(entry.low for entry in calls), sum(entry.high for entry in calls)
    total = _usd(_total(calls, "usd_low"), _total(calls, "usd_high"))
    return [
        f"calls     {few} to {many}{total or '; the model has no price; add it to anthropic.prices in poise.yaml'}",
        *lines,
        "          (low: every first attempt passes; high: every resample, repair and resend is used;",
        "          --budget-usd limits the cost)",
    ]


def _run_lines(runs: int, protocol: Protocol, run: CostEstimate) -> list[str]:
    return [
        f"runs      {runs} of protocol {protocol.name}, including the confirmation",
        *(
            f"  {cost.hardware:<{_WIDTH}} {runs * cost.low:.2g} to {runs * cost.high:.2g} {cost.unit}"
            for cost in run.costs
        ),
        *(f"note      {note}" for note in run.notes),
    ]


def _usd(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f", ${low:.2f} to ${high:.2f}"


def _total(calls: tuple[ExpectedCalls, ...], name: str) -> float | None:
    found = [getattr(entry, name) for entry in calls]
    return None if None in found else math.fsum(found)
