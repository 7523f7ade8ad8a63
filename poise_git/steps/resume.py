"""What an earlier call has left to do."""

from __future__ import annotations

from collections.abc import Iterator

from poise_git import events
from poise_git.archive import Archive
from poise_git.archive.entries import Status
from poise_git.archive.genealogy import Genealogy
from poise_git.search.plan import Plan, Slot
from poise_git.steps.session import Session


def unfinished_plan(session: Session) -> Plan | None:
    """The newest plan under this protocol, if something of it is still to do."""
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
    """Every plan of the journal. The newest alone is read unless more are asked for: a plan holds every candidate."""
    before = max(archive.count_rounds() - 1, 0)
    newest = archive.rounds(before)
    yield from (Plan.from_data(data) for data in reversed(newest))
    older = archive.rounds()
    yield from (Plan.from_data(data) for data in reversed(older[: len(older) - len(newest)]))


def _is_done(session: Session, slot: Slot, genealogy: Genealogy) -> bool:
    """Its proposal has an outcome, or it has none."""
    if slot.chosen is None:
        return True
    node = genealogy.by_name.get(slot.chosen.name)
    return node is not None and node.status_under(session.protocol.hash) is not Status.PENDING


def _is_replicated(session: Session, name: str, genealogy: Genealogy) -> bool:
    """Whether nothing is to be run, or to be counted, of the further seeds of an evaluated candidate."""
    metrics = genealogy[name].metrics_under(session.protocol.hash)
    return not (metrics and metrics.gain and metrics.gain.n <= len(session.protocol.seeds))
