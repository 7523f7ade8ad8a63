"""The selection rules of other systems, as policies for comparison.

They see the same input as the shipped policies. Only their choice of parents is reproduced, not their prompts,
populations and evaluators.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poise_git.search.selection.interface import Choice, ModelSkill, Ranked, Selection, Survey, Terms
from poise_git.search.selection.terms import performance_term, scaled
from poise_git.settings import AcquisitionWeights

Array = NDArray[np.float64]
NOTHING = ModelSkill(None, 0, 0, "it has no model")


@dataclass(frozen=True)
class Rival:
    """Chooses by `_choose`; everything else is filled in."""

    weights = AcquisitionWeights(perf=1.0)

    def select(self, survey: Survey, count: int, seed: int) -> Selection:
        picked = [0] * count if len(survey.nodes) == 1 else self._choose(survey, count, random.Random(seed))
        utilities = _utilities(survey)
        ranked = [
            Ranked(node, Terms(0.0, float(value), 0.0, None), {}, float(value))
            for node, value in zip(survey.nodes, scaled(utilities), strict=True)
        ]
        choices = tuple(Choice(survey.nodes[place].name, type(self).__name__) for place in picked)
        return Selection(tuple(sorted(ranked, key=lambda entry: -entry.score)), choices, NOTHING)

    def _choose(self, survey: Survey, count: int, lot: random.Random) -> list[int]:
        raise NotImplementedError


class Greedy(Rival):
    """The best measured utilities."""

    def _choose(self, survey: Survey, count: int, lot: random.Random) -> list[int]:
        return _best(_utilities(survey), count)


class Uniform(Rival):
    """A uniform random choice."""

    def _choose(self, survey: Survey, count: int, lot: random.Random) -> list[int]:
        return _draw(np.ones(len(survey.nodes)), count, lot)


class PerformanceAndNovelty(Rival):
    """sigmoid(10 (U - 1/2)) / (1 + children): Darwin Gödel Machine (arXiv:2505.22954), ShinkaEvolve (2509.19349)."""

    def _choose(self, survey: Survey, count: int, lot: random.Random) -> list[int]:
        performance = 1 / (1 + np.exp(-10 * (performance_term(_utilities(survey)) - 0.5)))
        return _draw(performance / (1 + _children(survey)), count, lot)


class Islands(Rival):
    """MAP-Elites on islands as OpenEvolve has it: three islands by root line, cells by dynamics and mechanisms.

    A fifth of the draws is random, most draws take a cell's elite among the best third, and the rest go by utility. In
    every fifth generation each island copies its best to the next one.
    """

    islands, bins = 3, 5

    def _choose(self, survey: Survey, count: int, lot: random.Random) -> list[int]:
        utilities, generation = _utilities(survey), len(survey.nodes) // 3
        home = _home(survey, self.islands)
        dynamics = np.array([sum(node.dynamics) for node in survey.nodes])
        mechanisms = np.array([float(len(node.mechanisms)) for node in survey.nodes])
        cells = np.stack([(scaled(axis) * (self.bins - 0.01)).astype(int) for axis in (dynamics, mechanisms)], axis=1)
        picked: list[int] = []
        for slot in range(count):
            members = [place for place in range(len(survey.nodes)) if home[place] in (-1, slot % self.islands)]
            if generation >= 5:
                lent = [place for place in range(len(survey.nodes)) if home[place] == (slot - 1) % self.islands]
                members += [max(lent, key=lambda place: utilities[place])] if lent else []
            members = [place for place in members if place not in picked] or list(range(len(survey.nodes)))
            elites: dict[tuple[int, ...], int] = {}
            for place in members:
                cell = tuple(cells[place])
                if cell not in elites or utilities[place] > utilities[elites[cell]]:
                    elites[cell] = place
            chance = lot.random()
            if chance < 0.2:
                picked.append(lot.choice(members))
            elif chance < 0.9:
                best = sorted(elites.values(), key=lambda place: -utilities[place])[: max(1, (len(elites) + 2) // 3)]
                picked.append(lot.choice(best))
            else:
                picked.append(members[_draw(scaled(utilities[members]) + 0.05, 1, lot)[0]])
        return picked


class CladeMetaproductivity(Rival):
    """Thompson sampling on the share of good members of each node's clade: Huxley-Gödel Machine (arXiv:2510.21614)."""

    def _choose(self, survey: Survey, count: int, lot: random.Random) -> list[int]:
        utilities = _utilities(survey)
        good = (utilities >= np.quantile(utilities, 0.75)).astype(float)
        successes, failures = 1 + _over_clade(survey, good), 1 + _over_clade(survey, 1 - good)
        return _best(np.array([lot.betavariate(a, b) for a, b in zip(successes, failures, strict=True)]), count)


class UpperConfidenceTree(Rival):
    """UCT: down from the root by value + c sqrt(log N / n), a node's own expansion being one of its arms."""

    exploration = 0.4

    def _choose(self, survey: Survey, count: int, lot: random.Random) -> list[int]:
        utilities = performance_term(_utilities(survey))
        parents = survey.first_parents
        children: list[list[int]] = [[] for _ in parents]
        for place, parent in enumerate(parents):
            if parent >= 0:
                children[parent].append(place)
        clades = [[place] for place in range(len(parents))]
        for place in reversed(range(len(parents))):
            for child in children[place]:
                clades[place] += clades[child]
        value = [float(np.mean(sorted(utilities[clade])[-3:])) for clade in clades]
        visits = [float(len(clade)) for clade in clades]
        picked: list[int] = []
        while len(picked) < count:
            place = self._descend(utilities, children, clades, value, visits, picked)
            if place in picked:
                free = [other for other in np.argsort(-utilities, kind="stable") if other not in picked]
                place = int(free[0]) if free else place
            picked.append(place)
            above = place
            while above >= 0:
                visits[above] += 1
                above = parents[above]
        return picked

    def _descend(
        self,
        utilities: Array,
        children: Sequence[Sequence[int]],
        clades: Sequence[Sequence[int]],
        value: Sequence[float],
        visits: Sequence[float],
        picked: Sequence[int],
    ) -> int:
        place = 0
        while children[place]:
            reach = math.log(visits[place] + 1)
            tried = len(children[place])
            of_children = float(np.mean(utilities[list(children[place])]))
            expand = (
                of_children + self.exploration * math.sqrt(reach / (1 + tried)) if place not in picked else -math.inf
            )
            open_arms = [child for child in children[place] if not set(clades[child]) <= set(picked)]
            scores = {child: value[child] + self.exploration * math.sqrt(reach / visits[child]) for child in open_arms}
            best = max(scores, key=scores.__getitem__, default=None)
            if best is None or expand >= scores[best]:
                return place
            place = best
        return place


RIVALS = {
    "greedy": Greedy(),
    "uniform": Uniform(),
    "performance-and-novelty": PerformanceAndNovelty(),
    "map-elites-islands": Islands(),
    "clade-metaproductivity": CladeMetaproductivity(),
    "uct": UpperConfidenceTree(),
}


def _utilities(survey: Survey) -> Array:
    return np.array([node.utility for node in survey.nodes])


def _children(survey: Survey) -> Array:
    return np.array([float(survey.children.get(node.name, 0)) for node in survey.nodes])


def _best(scores: Array, count: int) -> list[int]:
    return [int(place) for place in np.argsort(-scores, kind="stable")[:count]]


def _draw(weights: Array, count: int, lot: random.Random) -> list[int]:
    """Draw distinct positions, one after the other, by weight."""
    left = weights.astype(float).copy()
    picked = []
    for _ in range(min(count, len(left))):
        place = lot.choices(range(len(left)), list(left))[0]
        picked.append(place)
        left[place] = 0.0
    return picked


def _home(survey: Survey, islands: int) -> list[int]:
    """The island of each node's lineage; -1 for the root, which is on all islands."""
    found: list[int] = []
    lines = 0
    for parent in survey.first_parents:
        if parent < 0:
            found.append(-1)
        elif found[parent] < 0:
            found.append(lines % islands)
            lines += 1
        else:
            found.append(found[parent])
    return found


def _over_clade(survey: Survey, values: Array) -> Array:
    """The sum over each node and all its descendants."""
    total = values.copy()
    for place in reversed(range(len(total))):
        parent = survey.first_parents[place]
        if parent >= 0:
            total[parent] += total[place]
    return total
