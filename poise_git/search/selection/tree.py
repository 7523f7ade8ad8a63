"""The default policy: select parents by the expected utility of their children, from a joint model of the whole tree.

    s(d) = w_pareto U_pareto + w_perf E[u_d] + w_div U_div + w_bayes α(d)
    α(d) = E[u_d + m + a_d] + κ sd(u_d + m + a_d)

These terms replace measured utilities and gains over them (see `tree_model.py` and docs/selection.md). The exploration
share of the slots (`exploration_share.py`) is drawn at random among nodes that fell and have few children, because
stepping stones score below their parents, and a model of scores cannot tell them from failures. The last round
replicates candidates that may be the best, if noise could decide between them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from poise_git.archive.collection import gc_paused
from poise_git.search.selection.exploration_share import ExplorationShare, best_of_line, learn_exploration_share
from poise_git.search.selection.interface import Action, Choice, ModelSkill, Ranked, Selection, Survey, Terms
from poise_git.search.selection.model_skill import rank_correlation
from poise_git.search.selection.pareto import pareto_term
from poise_git.search.selection.picking import pick_best
from poise_git.search.selection.terms import distances, diversity_term, performance_term, promise_term
from poise_git.search.selection.tree_model import Posterior, TreeModel, tree_of
from poise_git.settings import AcquisitionWeights, SearchSettings

Vector = NDArray[np.float64]

# Chosen on the tuning worlds of tests/benchmarks/search_efficiency.py.
WEIGHTS = AcquisitionWeights(pareto=0.10, perf=0.15, div=0.05, bayes=0.70)
KAPPA = 2.0
# The last rounds select only by score, because a new lineage would have no time to yield.
LAST_ROUNDS = 3
# In the last round, replicate candidates whose utility is at least this uncertain, in spreads of utility.
UNCERTAIN = 0.3
# If the promise of two nodes differs by this share of the spread of utilities, the better is drawn e times as often.
TEMPERATURE = 0.3
# Each child makes the draw of a node e^FATIGUE times less likely, and more so if utilities are uncertain.
FATIGUE = 1.5
# The penalty for a node's fall below the best of its lineage, relative to the quality of that lineage.
FALL_SHARE = 0.7
# A deeper fall than this, in units of the spread of utilities, counts as diverged.
DEEPEST_FALL = 1.5


@dataclass(frozen=True)
class TreePolicy:
    settings: SearchSettings

    @property
    def weights(self) -> AcquisitionWeights:
        return self.settings.weights or WEIGHTS

    @gc_paused()
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
            return promise_term(believed.child + kappa * deviation, feasible)

        def scores(deviation: Vector) -> Vector:
            return np.asarray((base + weights.bayes * bayes(deviation)) / total)

        own, alpha = scores(believed.child_deviation), bayes(believed.child_deviation)
        order = np.argsort(-own, kind="stable").tolist()
        standing = {place: number for number, place in enumerate(order, start=1)}

        lot = random.Random(seed)
        lines = best_of_line(survey.first_parents, believed.utility)
        fall = np.minimum(lines - believed.utility, DEEPEST_FALL * believed.scale)
        share, reliability = self._learn_share(survey, believed)
        promise = (FALL_SHARE * fall + (1.0 - FALL_SHARE) * lines) / (TEMPERATURE * believed.scale)
        promise -= FATIGUE / reliability * children
        again = contenders(survey, believed, count)
        choices = [Choice(nodes[place].name, reason, Action.REEVALUATE) for place, reason in again.items()]
        explored = min(_whole(share.share * count, lot), count - len(choices))
        taken = list(again)
        deviation = believed.child_deviation
        while len(choices) < count - explored:
            place = pick_best(scores(deviation), taken)
            taken.append(place)
            choices.append(
                Choice(nodes[place].name, f"score {own[place]:.3f}, place {standing[place]} of {len(nodes)}")
            )
            deviation = model.child_deviation(taken)
        while len(choices) < count:
            place = draw(promise, taken, lot)
            taken.append(place)
            reason = (
                f"exploration slot, drawn at random: {children[place]:.0f} children, {fall[place]:.4f} below the best "
                f"of its lineage"
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
        return Selection(
            tuple(ranked[place] for place in order), tuple(choices), _foresight(survey, believed), (share.statement,)
        )

    def _learn_share(self, survey: Survey, believed: Posterior) -> tuple[ExplorationShare, float]:
        """The exploration share: that of the settings, or else the learned one; 0 if it is too late for new lineages.

        Also the reliability of a measured utility: spread² / (spread² + error²).
        """
        error = float(np.median([node.error for node in survey.nodes]))
        learnt = learn_exploration_share(survey.first_parents, believed.utility, believed.scale, error)
        share = learnt.share if self.settings.exploration_share is None else self.settings.exploration_share
        ends = survey.remaining is not None and survey.remaining <= LAST_ROUNDS * self.settings.parents
        if ends or len(survey.nodes) == 1:
            share = 0.0
        return replace(learnt, share=share), believed.scale**2 / (believed.scale**2 + error**2)


def contenders(survey: Survey, believed: Posterior, count: int) -> dict[int, str]:
    """The places worth replicating before a search ends, at most `count` in all, each with the reason.

    In the last round another child changes little, but the choice between close leaders may rest on noise. A node is a
    contender if it may be the best (its expected utility plus one deviation reaches the best expected one), if its
    utility is uncertain, and if it was measured once. A single contender has no rival, so it needs no replication.
    """
    once = min(node.seeds for node in survey.nodes)
    left = count - sum(node.seeds > once for node in survey.nodes)
    if survey.remaining is None or survey.remaining > count or left <= 0:
        return {}
    # A node that violates a constraint can be the best only if all do.
    eligible = np.array([node.feasible for node in survey.nodes])
    eligible |= not eligible.any()
    leading = float(believed.utility[eligible].max())
    found = [
        int(place)
        for place in np.argsort(-believed.utility, kind="stable")
        if eligible[place]
        and believed.utility[place] + believed.utility_deviation[place] >= leading
        and believed.utility_deviation[place] > UNCERTAIN * believed.scale
        and survey.nodes[place].seeds == once
        and survey.nodes[place].repeatable
        and survey.nodes[place].parents
    ]
    if len(found) < 2:
        return {}
    return {
        place: f"replicated: {believed.utility[place]:.4f} ± {believed.utility_deviation[place]:.4f}, one of "
        f"{len(found)} candidates that may be the best"
        for place in found[:left]
    }


def _whole(slots: float, lot: random.Random) -> int:
    """Round a number of slots at random, so that its expectation stays the same."""
    whole = int(slots + 1e-9)
    return whole + (lot.random() < slots - whole - 1e-9)


def draw(log_weights: Vector, taken: Sequence[int], lot: random.Random) -> int:
    """A random free place with the given log weights (n,); any place if all are taken."""
    free = np.setdiff1d(np.arange(len(log_weights)), taken)
    places = free if len(free) else np.arange(len(log_weights))
    weights = np.exp(log_weights[places] - log_weights[places].max())
    return int(lot.choices(list(places), list(weights))[0])


def _foresight(survey: Survey, believed: Posterior) -> ModelSkill:
    """The best child of each node, against the prediction with the lineage of that node held out."""
    best: dict[int, float] = {}
    for place, parent in enumerate(survey.first_parents):
        if parent >= 0:
            best[parent] = max(best.get(parent, float("-inf")), survey.nodes[place].utility)
    places = np.array(sorted(best), dtype=np.int64)
    return rank_correlation(believed.predicted[places], np.array([best[place] for place in sorted(best)]), len(places))
