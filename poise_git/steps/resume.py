"""Find the unfinished work of an earlier call."""

from __future__ import annotations

from collections.abc import Iterator

from poise_git import events
from poise_git.archive import Archive
from poise_git.archive.entries import Status
from poise_git.archive.genealogy import Genealogy
from poise_git.search.plan import Plan, Slot
from poise_git.steps.session import Session


def unfinished_plan(session: Session) -> Plan | None:
    """Return the newest plan under this protocol if part of it is unfinished, else None."""
    plan = next((plan for plan in _newest_first(session.archive) if plan.protocol == session.protocol.hash), None)
    genealogy = session.genealogy
    if plan is None:
        return None
    replicated = all(_is_replicated(session, name, genealogy) for name in plan.again)
    if replicated and all(_is_done(session, slot, genealogy) for slot in plan.slots):
        return None
    session.observe(events.RoundPlanned(plan.number, plan.parents, resumed=True))
    return plan


def _newest_first(archive: Archive) -> Iterator[Plan]:
    """Yield the journal's plans, newest first. Older plans are read only on demand, because every plan is large."""
    before = max(archive.count_rounds() - 1, 0)
    newest = archive.rounds(before)
    yield from (Plan.from_data(data) for data in reversed(newest))
    older = archive.rounds()
    yield from (Plan.from_data(data) for data in reversed(older[: len(older) - len(newest)]))


def _is_done(session: Session, slot: Slot, genealogy: Genealogy) -> bool:
    """Whether the slot's proposal has an outcome, or no proposal was chosen."""
    if slot.chosen is None:
        return True
    node = genealogy.by_name.get(slot.chosen.name)
    return node is not None and node.status_under(session.protocol.hash) is not Status.PENDING


def _is_replicated(session: Session, name: str, genealogy: Genealogy) -> bool:
    """Whether no further seed of an evaluated candidate remains to be run or counted."""
    metrics = genealogy[name].metrics_under(session.protocol.hash)
    return not (metrics and metrics.gain and metrics.gain.n <= len(session.protocol.seeds))
