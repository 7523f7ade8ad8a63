"""Selection policies replayed on a recorded lineage: an expansion reveals the next recorded child.

A policy sees one seed, and the other seed serves as the truth; then the other way round. The order of each node's
children is drawn anew in each repeat, the same for all policies.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poise_git.search.selection.interface import Choice, Node, Policy, Ranked, Survey
from tests.benchmarks.recorded_lineage import SEEDS, Lineage, mean_with_interval

Array = NDArray[np.float64]

PARENTS = 3
BUDGET = 63
# How often a random policy draws again if its choice has no recorded child left.
ASKED_AGAIN = 12


class Replay:
    """A recorded lineage and its revealed nodes; the policy sees one seed."""

    def __init__(self, lineage: Lineage, seen: int, order: random.Random) -> None:
        self.lineage, self.seen = lineage, seen
        self.revealed = [lineage.candidates[0].name]
        self.hidden = {name: order.sample(names, len(names)) for name, names in lineage.children.items()}

    def expand(self, name: str) -> str:
        """Reveal the next child. Raises IndexError where none is left."""
        child = self.hidden[name].pop(0)
        self.revealed.append(child)
        return child

    @property
    def open(self) -> list[str]:
        """Revealed nodes that have a hidden child."""
        return [name for name in self.revealed if self.hidden[name]]

    def survey(self, remaining: int) -> Survey:
        nodes = tuple(
            Node(
                name=entry.name,
                parents=entry.parents,
                utility=entry.utilities[self.seen],
                error=self.lineage.deviation,
                metrics=entry.metrics[self.seen],
                metric_errors=(self.lineage.deviation * 2**0.5,) * len(entry.metrics[self.seen]),
                dynamics=entry.dynamics,
                mechanisms=entry.mechanisms,
                text=entry.text,
                depth=entry.depth,
            )
            for entry in (self.lineage.by_name[name] for name in self.revealed)
        )
        children = {name: len(self.lineage.children[name]) - len(self.hidden[name]) for name in self.revealed}
        return Survey(nodes, children, remaining)


def replay(lineage: Lineage, policy: Policy, repeat: int, budget: int = BUDGET) -> list[float]:
    """The true utility of the best measured node, after each evaluation."""
    seen, truth = (SEEDS, SEEDS[::-1])[repeat % 2]
    world = Replay(lineage, seen, random.Random(repeat))
    found = [lineage.candidates[0].utilities[truth]]
    while len(found) <= budget and world.open:
        for name in _expandable(world, policy, min(PARENTS, budget + 1 - len(found)), 1000 * repeat + len(found)):
            if world.hidden[name]:
                world.expand(name)
                leader = max(world.revealed, key=lambda each: lineage.by_name[each].utilities[seen])
                found.append(lineage.by_name[leader].utilities[truth])
    return found


def _expandable(world: Replay, policy: Policy, count: int, seed: int) -> list[str]:
    """The policy's choice among expandable nodes; otherwise its next best by score."""
    survey = world.survey(BUDGET + 1 - len(world.revealed))
    chosen: list[str] = []
    ranked: Sequence[Ranked] = ()
    before: Sequence[Choice] = ()
    for again in range(ASKED_AGAIN):
        selection = policy.select(survey, count, seed + 7919 * again)
        ranked = selection.ranked
        if selection.choices == before:
            break  # it is deterministic, so it would repeat its choice
        before = selection.choices
        for choice in selection.choices:
            if len(chosen) < count and chosen.count(choice.name) < len(world.hidden[choice.name]):
                chosen.append(choice.name)
        if len(chosen) == count:
            return chosen
    open_by_score = [entry.node.name for entry in ranked if entry.node.name in world.open]
    return [*chosen, *(name for name in open_by_score if name not in chosen)][:count]


def compare(lineage: Lineage, policies: Mapping[str, Policy], repeats: int, default: str = "tree") -> dict[str, Any]:
    """Final true utility of each policy, and the lead of the default in the same repeats."""
    finals: dict[str, Array] = {}
    areas: dict[str, Array] = {}
    for name, policy in policies.items():
        curves = [replay(lineage, policy, repeat) for repeat in range(repeats)]
        finals[name] = np.array([curve[-1] for curve in curves])
        areas[name] = np.array([float(np.mean(curve)) for curve in curves])
    return {
        name: {
            "final": mean_with_interval(finals[name]),
            "area": mean_with_interval(areas[name]),
            "default_less_this": None if name == default else mean_with_interval(finals[default] - finals[name]),
        }
        for name in sorted(finals, key=lambda each: -float(finals[each].mean()))
    }
