"""The input and output of a selection policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Protocol

from poise_git.settings import AcquisitionWeights


@dataclass(frozen=True, slots=True)
class Node:
    """The data about one eligible (evaluated) candidate.

    `error` is the standard error of `utility`. `metrics` are oriented so that larger is better, with `metric_errors`.
    `dynamics` are summary figures of training, () if unknown. `mechanisms` are words for the mechanisms of the
    candidate and its ancestors. `text` is its proposal. `seeds` are the runs behind the estimates. `feasible` says
    whether it keeps the constraints of the objective. `repeatable` says whether the archive has its runs, so that more
    seeds can be added.
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
    """Everything that a policy may use.

    `nodes` are in the order of their commits, parents before children. `children` counts all children of a node,
    including failed ones. `remaining` is the number of evaluations left, if known.
    """

    nodes: tuple[Node, ...]
    children: Mapping[str, int]
    remaining: int | None = None

    @cached_property
    def place(self) -> Mapping[str, int]:
        return {node.name: place for place, node in enumerate(self.nodes)}

    @cached_property
    def first_parents(self) -> tuple[int, ...]:
        """The place of each node's first eligible parent; -1 if it has none."""
        return tuple(
            next((self.place[parent] for parent in node.parents if parent in self.place), -1) for node in self.nodes
        )

    def related(self, left: int, right: int) -> bool:
        """Whether two nodes are the same node, or parent and child."""
        one, other = self.nodes[left], self.nodes[right]
        return left == right or one.name in other.parents or other.name in one.parents


class Action(StrEnum):
    EXPAND = "expand"
    REEVALUATE = "reevaluate"


@dataclass(frozen=True, slots=True)
class Terms:
    """The four terms of s(d), each in [0, 1]; `bayes` is None while the model has too little data."""

    pareto: float
    perf: float
    div: float
    bayes: float | None


@dataclass(frozen=True, slots=True)
class Ranked:
    """One eligible node with its terms, their inputs, and its score s(d)."""

    node: Node
    terms: Terms
    ingredients: Mapping[str, float]
    score: float


@dataclass(frozen=True, slots=True)
class Choice:
    """One action on one node, with the reason."""

    name: str
    reason: str
    action: Action = Action.EXPAND


@dataclass(frozen=True)
class ModelSkill:
    """How well the model of potential predicts held-out lineages.

    `correlation` is the rank correlation of predicted and realized potential, with each lineage held out in turn; None
    if it cannot be computed. `statement` says it in words.
    """

    correlation: float | None
    lineages: int
    labeled: int
    statement: str


@dataclass(frozen=True)
class Selection:
    """`ranked` holds every eligible node, best score first; `choices` the actions of this round, in order.

    `remarks` explain other influences in words.
    """

    ranked: tuple[Ranked, ...]
    choices: tuple[Choice, ...]
    knowledge: ModelSkill
    remarks: tuple[str, ...] = ()

    @property
    def parents(self) -> tuple[Choice, ...]:
        """The choices that get a child."""
        return tuple(choice for choice in self.choices if choice.action is Action.EXPAND)

    @property
    def again(self) -> tuple[str, ...]:
        """The candidates to replicate."""
        return tuple(choice.name for choice in self.choices if choice.action is Action.REEVALUATE)


class Policy(Protocol):
    """Chooses parents.

    For every survey with at least one node:
    S1  exactly `count` choices, each of a node of the survey; a replication in the last round counts as a choice;
    S2  the same survey, count and seed give the same selection;
    S3  no node is chosen twice while there is a choice;
    S4  `ranked` holds every node once, and all its terms lie in [0, 1].
    """

    @property
    def weights(self) -> AcquisitionWeights:
        """The weights of the terms: those of the settings, or the policy's own."""
        ...

    def select(self, survey: Survey, count: int, seed: int) -> Selection: ...
