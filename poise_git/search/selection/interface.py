"""What a selection policy is given, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Protocol

from poise_git.settings import AcquisitionWeights


@dataclass(frozen=True, slots=True)
class Node:
    """What selection knows of an eligible (evaluated) candidate.

    `error` is the standard error of `utility`; `metrics` are oriented (larger is better), with `metric_errors`;
    `dynamics` are summary figures of training, () where nothing is known; `mechanisms` are words for what the candidate
    has in it, its ancestors' included; `text` is what its proposal says; `seeds` are the runs behind the estimates;
    `feasible` is whether it keeps the constraints of the objective, `repeatable` whether its runs are here, so that
    further ones can join them.
    """

    name: str
    parents: tuple[str, ...]
    utility: float
    error: float
    metrics: tuple[float, ...]
    metric_errors: tuple[float, ...]
    dynamics: tuple[float, ...] = ()
    mechanisms: frozenset[str] = frozenset()
    text: str = ""
    depth: int = 0
    seeds: int = 1
    feasible: bool = True
    repeatable: bool = True


@dataclass(frozen=True)
class Survey:
    """Everything a policy may look at.

    `nodes` stand in the order of their commits, parents before children; `children` counts all children a node has had,
    failed ones too; `remaining` is how many evaluations are left, where the search knows.
    """

    nodes: tuple[Node, ...]
    children: Mapping[str, int]
    remaining: int | None = None

    @cached_property
    def place(self) -> Mapping[str, int]:
        return {node.name: place for place, node in enumerate(self.nodes)}

    @cached_property
    def first_parents(self) -> tuple[int, ...]:
        """The place of each node's first eligible parent; -1 where it has none."""
        return tuple(
            next((self.place[parent] for parent in node.parents if parent in self.place), -1) for node in self.nodes
        )

    def related(self, left: int, right: int) -> bool:
        """The same node, or parent and child."""
        one, other = self.nodes[left], self.nodes[right]
        return left == right or one.name in other.parents or other.name in one.parents


class Action(StrEnum):
    EXPAND = "expand"
    REEVALUATE = "reevaluate"


@dataclass(frozen=True, slots=True)
class Terms:
    """The four terms of s(d), each in [0, 1]; `bayes` is None while the model knows too little to take part."""

    pareto: float
    perf: float
    div: float
    bayes: float | None


@dataclass(frozen=True, slots=True)
class Ranked:
    """One eligible node with its terms, what they were made from, and its score s(d)."""

    node: Node
    terms: Terms
    ingredients: Mapping[str, float]
    score: float


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing to do with one node, and why."""

    name: str
    reason: str
    action: Action = Action.EXPAND


@dataclass(frozen=True)
class Knowledge:
    """How well the model of potential predicts lines it has not seen.

    `correlation` is the rank correlation of predicted and realised potential, each lineage predicted with itself left
    out; None where it cannot be had. `statement` says it in words.
    """

    correlation: float | None
    lineages: int
    labelled: int
    statement: str


@dataclass(frozen=True)
class Selection:
    """`ranked` holds every eligible node, the best score first; `choices` what to do this round, in order.

    `remarks` say in words what else decided.
    """

    ranked: tuple[Ranked, ...]
    choices: tuple[Choice, ...]
    knowledge: Knowledge
    remarks: tuple[str, ...] = ()

    @property
    def parents(self) -> tuple[Choice, ...]:
        """The choices that get a child."""
        return tuple(choice for choice in self.choices if choice.action is Action.EXPAND)

    @property
    def again(self) -> tuple[str, ...]:
        """The candidates to measure again."""
        return tuple(choice.name for choice in self.choices if choice.action is Action.REEVALUATE)


class Policy(Protocol):
    """Chooses parents.

    For every survey with at least one node:
    S1  exactly `count` choices, each of a node of the survey; measuring again is one too, in a search's last round;
    S2  the same survey, count and seed give the same selection;
    S3  no node is chosen twice while there is a choice;
    S4  `ranked` holds every node once, and all its terms lie in [0, 1].
    """

    @property
    def weights(self) -> AcquisitionWeights:
        """The weights of its terms: those of the settings, or its own."""
        ...

    def select(self, survey: Survey, count: int, seed: int) -> Selection: ...
