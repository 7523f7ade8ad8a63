"""The cost of a protocol's runs, estimated before anything starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Quantity:
    """A counted quantity of one run, from `low` to `high`; both are equal if the protocol fixes it."""

    name: str
    low: float
    high: float
    unit: str = ""


@dataclass(frozen=True)
class Cost:
    """Hours of one run on one kind of hardware; `assumption` states the speed."""

    hardware: str
    low: float
    high: float
    unit: str
    assumption: str


@dataclass(frozen=True)
class CostEstimate:
    """The estimate of one run (one candidate, one seed).

    Attributes:
        quantities: steps, prompts, tokens, operations.
        costs: one for each kind of hardware.
        notes: the omissions of the figures, and the sources of the formulas.
    """

    quantities: tuple[Quantity, ...]
    costs: tuple[Cost, ...]
    notes: tuple[str, ...]

    def to_data(self) -> dict[str, Any]:
        return asdict(self)
