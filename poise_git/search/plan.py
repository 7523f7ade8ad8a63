"""The decisions of a round in the journal: terms of every eligible node, parents with reasons, all proposals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from poise_git.archive import Archive
from poise_git.archive.entries import Call, Proposal
from poise_git.archive.refs import JOURNAL
from poise_git.search.context.references import Rejected
from poise_git.search.proposals.screening import Screened, Verdict
from poise_git.search.selection.interface import Selection
from poise_git.untrusted.data import mapping, read_entry

# Rejected proposals of this many recent rounds are part of later contexts.
REMEMBERED_ROUNDS = 16


@dataclass(frozen=True)
class Slot:
    """One selected parent with the screened proposals of all attempts: last attempt first, best proposal first.

    At most one of them becomes a candidate; none does if all were rejected.
    """

    parent: str
    reason: str
    seed: int
    proposals: tuple[Screened, ...]

    @property
    def chosen(self) -> Proposal | None:
        """The proposal that is implemented.

        Older journals do not name it; for these it is the best proposal that was not rejected.
        """
        verdicts = (Verdict.CHOSEN, Verdict.PASSED)
        found = [entry.proposal for verdict in verdicts for entry in self.proposals if entry.verdict is verdict]
        return found[0] if found else None

    @property
    def attempts(self) -> int:
        """The number of times that the agent was asked for proposals."""
        return 1 + max((entry.attempt for entry in self.proposals), default=0)

    def to_data(self) -> dict[str, Any]:
        return {
            "parent": self.parent,
            "reason": self.reason,
            "seed": self.seed,
            "proposals": [entry.to_data() for entry in self.proposals],
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Slot:
        return cls(
            parent=str(data["parent"]),
            reason=str(data["reason"]),
            seed=int(data["seed"]),
            proposals=tuple(map(Screened.from_data, data["proposals"])),
        )


@dataclass(frozen=True)
class Plan:
    """The plan of a round, before anything is implemented.

    `acquisition` holds the inputs and choices of selection as plain data. `again` are the candidates to replicate.
    `calls` is the cost of the plan, including rejected proposals.
    """

    number: int
    protocol: str
    agent: str
    directive: str
    seed: int
    policy: str
    acquisition: Mapping[str, Any]
    slots: tuple[Slot, ...]
    again: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()

    @property
    def parents(self) -> tuple[tuple[str, str], ...]:
        return tuple((slot.parent, slot.reason) for slot in self.slots)

    @property
    def summary(self) -> str:
        """One line: the parents, the number of proposals, and the number of rejected ones."""
        verdicts = [entry.verdict for slot in self.slots for entry in slot.proposals]
        rejected = f", {count} rejected" if (count := verdicts.count(Verdict.REJECTED)) else ""
        again = f"; {', '.join(self.again)} replicated" if self.again else ""
        parents = f"parents {', '.join(slot.parent for slot in self.slots)}; " if self.slots else ""
        return f"{parents}{len(verdicts)} proposals{rejected}{again}"

    def to_data(self) -> dict[str, Any]:
        data = {
            "version": 1,
            "round": self.number,
            "protocol": self.protocol,
            "agent": self.agent,
            "directive": self.directive,
            "seed": self.seed,
            "policy": self.policy,
            "acquisition": dict(self.acquisition),
            "slots": [slot.to_data() for slot in self.slots],
            "again": list(self.again),
        }
        return data | {"calls": [call.to_data() for call in self.calls]} if self.calls else data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Plan:
        """Read the plan of a round from the journal.

        Raises ArchiveError if it is not a plan.
        """
        return read_entry(cls._from_data, data, f"{JOURNAL}: round {str(data.get('round'))[:20]}")

    @classmethod
    def _from_data(cls, data: Mapping[str, Any]) -> Plan:
        return cls(
            number=int(data["round"]),
            protocol=str(data["protocol"]),
            agent=str(data["agent"]),
            directive=str(data["directive"]),
            seed=int(data["seed"]),
            policy=str(data["policy"]),
            acquisition=dict(mapping(data["acquisition"])),
            slots=tuple(map(Slot.from_data, data["slots"])),
            again=tuple(map(str, data.get("again") or ())),
            calls=tuple(Call.from_data(call) for call in data.get("calls") or ()),
        )


def rejected_proposals(archive: Archive) -> tuple[Rejected, ...]:
    """The proposals that screening rejected in the newest rounds, oldest first."""
    return tuple(
        Rejected(entry.proposal, entry.reason, number)
        for number, slots in archive.newest_rounds(REMEMBERED_ROUNDS, "slots")
        for slot in _slots(number, slots)
        for entry in slot.proposals
        if entry.verdict is Verdict.REJECTED
    )


def slots_after(archive: Archive, count: int) -> list[tuple[Slot, ...]]:
    """The slots of every round after the first `count`, the oldest first; the rest of a round is not read."""
    newer = archive.count_rounds() - count
    return [_slots(number, slots) for number, slots in archive.newest_rounds(newer, "slots")] if newer > 0 else []


def screening_of(archive: Archive, name: str) -> tuple[int, Slot] | None:
    """The round that chose a candidate, and its slot with the rivals; None for a manual candidate."""
    for number, slots in archive.rounds_with(name, "slots"):
        for slot in _slots(number, slots):
            if slot.chosen and slot.chosen.name == name:
                return number, slot
    return None


def _slots(number: int, data: Any) -> tuple[Slot, ...]:
    return read_entry(lambda slots: tuple(map(Slot.from_data, slots)), data, f"{JOURNAL}: round {number}")


def selection_data(selection: Selection) -> dict[str, Any]:
    """Each eligible node with its terms and their inputs, the skill of the model, and the choices."""
    return {
        "candidates": [
            {
                "name": entry.node.name,
                "feasible": entry.node.feasible,
                "score": _rounded(entry.score),
                "terms": {name: _rounded(value) for name, value in asdict(entry.terms).items()},
                "ingredients": {name: _rounded(value) for name, value in entry.ingredients.items()},
            }
            for entry in selection.ranked
        ],
        "knowledge": asdict(selection.knowledge),
        "remarks": list(selection.remarks),
        "choices": [
            {"name": choice.name, "action": str(choice.action), "reason": choice.reason} for choice in selection.choices
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
