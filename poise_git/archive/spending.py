"""The cost of agents' calls. A candidate's metrics hold its own calls; the journal holds the others."""

from __future__ import annotations

import math
from collections.abc import Iterable

from poise_git.archive import Archive
from poise_git.archive.entries import Call


def calls_for(archive: Archive, name: str, recent: Iterable[Call]) -> tuple[Call, ...]:
    """Every call for the candidate: archived ones, those journaled with its plan, and the `recent` ones."""
    metrics = archive.metrics_file(name)
    calls = (*(metrics.calls if metrics else ()), *archive.journaled_calls(), *recent)
    return tuple({call.key: call for call in calls if call.subject == name}.values())


def spent(archive: Archive) -> float:
    """The cost of the archive in US dollars: its candidates, and the other journaled calls.

    A candidate measured under several protocols has one ledger, which only grows.
    """
    by_candidate = {
        candidate.name: max(metrics.usd for metrics in candidate.metrics.values())
        for candidate in archive.genealogy()
        if candidate.metrics
    }
    beside = {
        call.key: call.usd or 0.0
        for call in archive.journaled_calls()
        if call.subject not in by_candidate and not call.replayed
    }
    return math.fsum((*by_candidate.values(), *beside.values()))
