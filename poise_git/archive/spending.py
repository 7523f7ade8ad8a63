"""What agents' calls have cost, as the archive tells it: by candidate in its metrics, all else in the journal."""

from __future__ import annotations

import math
from collections.abc import Iterable

from poise_git.archive import Archive
from poise_git.archive.entries import Call


def ledger_of(archive: Archive, name: str, recent: Iterable[Call]) -> tuple[Call, ...]:
    """Every call made for the candidate: those archived, those journalled with its plan, and the `recent` ones."""
    metrics = archive.metrics_file(name)
    calls = (*(metrics.calls if metrics else ()), *archive.journalled_calls(), *recent)
    return tuple({call.key: call for call in calls if call.subject == name}.values())


def spent(archive: Archive) -> float:
    """US dollars that the archive has paid for: its candidates, and what was journalled beside them.

    A candidate measured under several protocols has one ledger, which only grows.
    """
    by_candidate = {
        candidate.name: max(metrics.usd for metrics in candidate.metrics.values())
        for candidate in archive.genealogy()
        if candidate.metrics
    }
    beside = {
        call.key: call.usd or 0.0
        for call in archive.journalled_calls()
        if call.subject not in by_candidate and not call.replayed
    }
    return math.fsum((*by_candidate.values(), *beside.values()))
