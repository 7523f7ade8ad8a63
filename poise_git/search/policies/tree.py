"""The default: parents kept for what their children are expected to be worth, by a joint model of the whole tree.

    s(d) = w_pareto U_pareto + w_perf E[u_d] + w_div U_div + w_bayes α(d)
    α(d) = E[u_d + m + a_d] + κ sd(u_d + m + a_d)

in place of measured utilities and of gains over them (see `search/tree_model.py` and docs/selection.md). A share of
the slots is reserved for nodes that were expanded least, because stepping stones score below their parents and no model
of scores can tell them from duds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poise_git.search.foresight import judge
from poise_git.search.pareto import pareto_term
from poise_git.search.policies.interface import Choice, Knowledge, Ranked, Selection, Survey, Terms
from poise_git.search.policies.picking import pick_best
from poise_git.search.terms import distances, diversity_term, performance_term, scaled
from poise_git.search.tree_model import Posterior, TreeModel, tree_of
from poise_git.settings import AcquisitionWeights, SearchSettings

Vector = NDArray[np.float64]

# Chosen on the tuning worlds of tests/benchmarks/search_efficiency.py.
WEIGHTS = AcquisitionWeights(pareto=0.10, perf=0.15, div=0.05, bayes=0.70)
KAPPA = 2.0
# The last rounds all go by score: what is opened then has no time to yield.
LAST_ROUNDS = 2
# Of two nodes that differ in promise by this share of the spread of utilities one is drawn e times as often.
TEMPERATURE = 0.3
# What a node's fall below the best of its line counts against how good that line is.
FALL_SHARE = 0.7
# A fall deeper than this, in units of the spread of utilities, is a wreck like any other.
DEEPEST_FALL = 1.5


@dataclass(frozen=True)
class TreePolicy:
    settings: SearchSettings

    @property
    def weights(self) -> AcquisitionWeights:
        return self.settings.weights or WEIGHTS

    def select(self, survey: Survey, count: int, seed: int) -> Selection:
        nodes, settings = survey.nodes, self.settings
        utilities = np.array([node.utility for node in nodes])
        feasible = np.array([node.feasible for node in nodes])
        children = np.array([float(survey.children.get(node.name, 0)) for node in nodes])
        model = TreeModel(tree_of(survey.first_parents, utilities, [node.error for node in nodes]))
        believed = model.posterior
        pareto, fronts = pareto_term(
            np.array([node.metrics for node in nodes]),
            np.array([node.metric_errors for node in nodes]),
            utilities,
            feasible,
        )
        apart = distances([node.mechanisms for node in nodes], [node.dynamics for node in nodes])
        performance, diversity = performance_term(believed.utility, feasible), diversity_term(apart, children)
        weights = self.weights
        kappa = KAPPA if settings.kappa is None else settings.kappa
        total = weights.pareto + weights.perf + weights.div + weights.bayes
        base = weights.pareto * pareto + weights.perf * performance + weights.div * diversity

        def bayes(deviation: Vector) -> Vector:
            return scaled(believed.child + kappa * deviation)

        def scores(deviation: Vector) -> Vector:
            return np.asarray((base + weights.bayes * bayes(deviation)) / total)

        own, alpha = scores(believed.child_deviation), bayes(believed.child_deviation)
        order = sorted(range(len(nodes)), key=lambda place: (-own[place], place))
        standing = {place: number for number, place in enumerate(order, start=1)}

        lot = random.Random(seed)
        reserved = 0 if len(nodes) == 1 else self._reserved(survey, count, lot)
        taken: list[int] = []
        choices: list[Choice] = []
        deviation = believed.child_deviation
        while len(choices) < count - reserved:
            place = pick_best(scores(deviation), taken)
            taken.append(place)
            choices.append(
                Choice(nodes[place].name, f"score {own[place]:.3f}, place {standing[place]} of {len(nodes)}")
            )
            deviation = model.child_deviation(taken)
        lines = line_best(survey.first_parents, believed.utility)
        while len(choices) < count:
            fall = np.minimum(lines - believed.utility, DEEPEST_FALL * believed.scale)
            promise = FALL_SHARE * fall + (1.0 - FALL_SHARE) * lines
            place = draw_least_expanded(children, taken, promise / (TEMPERATURE * believed.scale), lot)
            taken.append(place)
            reason = (
                f"reserved slot: drawn among those with {children[place]:.0f} children, {fall[place]:.4f} below the "
                f"best of its line"
            )
            choices.append(Choice(nodes[place].name, reason))

        ranked = [
            Ranked(
                node,
                Terms(float(pareto[place]), float(performance[place]), float(diversity[place]), float(alpha[place])),
                {
                    "utility": node.utility,
                    "error": node.error,
                    "expected_utility": float(believed.utility[place]),
                    "expected_utility_deviation": float(believed.utility_deviation[place]),
                    "expected_child": float(believed.child[place]),
                    "expected_child_deviation": float(believed.child_deviation[place]),
                    "front": float(fronts[place]),
                    "distance": float(apart[place]),
                    "children": float(children[place]),
                },
                float(own[place]),
            )
            for place, node in enumerate(nodes)
        ]
        return Selection(tuple(ranked[place] for place in order), tuple(choices), _foresight(survey, believed))

    def _reserved(self, survey: Survey, count: int, lot: random.Random) -> int:
        """How many of this round's slots are reserved: the share, its fraction by lot."""
        if survey.remaining is not None and survey.remaining <= LAST_ROUNDS * count:
            return 0
        slots = self.settings.reserve * count
        whole = int(slots + 1e-9)
        return whole + (lot.random() < slots - whole - 1e-9)


def line_best(parents: Sequence[int], utilities: Vector) -> Vector:
    """The best utility on the way from the root to each node, itself included (n,)."""
    found = utilities.copy()
    for place, parent in enumerate(parents):
        if parent >= 0:
            found[place] = max(found[place], found[parent])
    return found


def draw_least_expanded(children: Vector, taken: Sequence[int], log_weights: Vector, lot: random.Random) -> int:
    """One of the nodes with the fewest children that are not taken, by lot with the given log weights (n,)."""
    free = np.ones(len(children), dtype=bool)
    free[list(taken)] = False
    if not free.any():
        free[:] = True
    places = np.flatnonzero(free & (children == children[free].min()))
    weights = np.exp(log_weights[places] - log_weights[places].max())
    return int(lot.choices(list(places), list(weights))[0])


def _foresight(survey: Survey, believed: Posterior) -> Knowledge:
    """The best child of each node against what was foretold with the line that descends from the node left out."""
    best: dict[int, float] = {}
    for place, parent in enumerate(survey.first_parents):
        if parent >= 0:
            best[parent] = max(best.get(parent, float("-inf")), survey.nodes[place].utility)
    places = np.array(sorted(best), dtype=np.int64)
    return judge(believed.foretold[places], np.array([best[place] for place in sorted(best)]), len(places))
