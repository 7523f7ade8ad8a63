"""The paper's acquisition (arXiv:2603.23951).

s(d) = w_pareto U_pareto + w_perf U_perf + w_div U_div + w_bayes α_GP(d)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poise_git.archive.collection import gc_paused
from poise_git.search.selection.descendant_potential import Potential, descendant_gain, predict_potential
from poise_git.search.selection.interface import Choice, ModelSkill, Ranked, Selection, Survey, Terms
from poise_git.search.selection.pareto import pareto_term
from poise_git.search.selection.picking import pick_unrelated
from poise_git.search.selection.terms import distances, diversity_term, performance_term, scaled
from poise_git.settings import AcquisitionWeights, SearchSettings

Vector = NDArray[np.float64]

WEIGHTS = AcquisitionWeights(pareto=0.25, perf=0.30, div=0.15, bayes=0.30)
KAPPA = 1.2
SMALLEST_SCALE = 1e-6


@dataclass(frozen=True)
class PaperPolicy:
    """Select the best by s(d), one after the other. α = μ + κσ counts once enough nodes have descendants.

    Until then the weight of α is distributed over the other terms.
    """

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
        pareto, fronts = pareto_term(
            np.array([node.metrics for node in nodes]),
            np.array([node.metric_errors for node in nodes]),
            utilities,
            feasible,
        )
        apart = distances([node.mechanisms for node in nodes], [node.dynamics for node in nodes])
        performance, diversity = performance_term(utilities, feasible), diversity_term(apart, children)
        beta = settings.beta or utility_scale(survey)
        labels = descendant_gain(survey, gamma=settings.gamma, beta=beta, top=settings.top_descendants)
        potential = predict_potential(survey, labels) if len(labels) >= settings.bayes_after else None

        weights = self.weights
        kappa = KAPPA if settings.kappa is None else settings.kappa
        base = weights.pareto * pareto + weights.perf * performance + weights.div * diversity
        total = weights.pareto + weights.perf + weights.div + (weights.bayes if potential else 0.0) or 1.0

        def bayes(taken: Sequence[int]) -> Vector | None:
            return scaled(potential.mean + kappa * potential.deviation(taken)) if potential else None

        def scores(taken: Sequence[int]) -> Vector:
            term = bayes(taken)
            return np.asarray((base if term is None else base + weights.bayes * term) / total)

        own, alpha, before = scores(()), bayes(()), potential.deviation(()) if potential else None
        ranked = []
        for place, node in enumerate(nodes):
            ingredients = {
                "utility": node.utility,
                "error": node.error,
                "front": float(fronts[place]),
                "distance": float(apart[place]),
                "children": float(children[place]),
                "beta": beta,
            }
            if potential and before is not None:
                ingredients |= {"mean": float(potential.mean[place]), "deviation": float(before[place])}
            if node.name in labels:
                label = labels[node.name]
                ingredients |= {"descendant_gain": label.value, "descendants": float(label.descendants)}
            terms = Terms(
                float(pareto[place]),
                float(performance[place]),
                float(diversity[place]),
                None if alpha is None else float(alpha[place]),
            )
            ranked.append(Ranked(node, terms, ingredients, float(own[place])))
        order = sorted(range(len(nodes)), key=lambda place: (-ranked[place].score, place))
        standing = {place: number for number, place in enumerate(order, start=1)}
        picked: list[int] = []
        while len(picked) < count:
            picked.append(pick_unrelated(survey, scores(picked), picked))
        return Selection(
            ranked=tuple(ranked[place] for place in order),
            choices=tuple(
                Choice(nodes[place].name, f"score {own[place]:.3f}, place {standing[place]} of {len(nodes)}")
                for place in picked
            ),
            knowledge=self._knowledge(potential, len(labels)),
        )

    def _knowledge(self, potential: Potential | None, labeled: int) -> ModelSkill:
        if potential:
            return potential.knowledge
        statement = f"bayes counts once {self.settings.bayes_after} candidates have descendants; {labeled} have some"
        return ModelSkill(None, 0, labeled, statement)


def utility_scale(survey: Survey) -> float:
    """The default β: the spread of U over the archive, at least two standard errors."""
    if not survey.nodes:
        return SMALLEST_SCALE
    utilities = np.array([node.utility for node in survey.nodes])
    errors = np.array([node.error for node in survey.nodes])
    return max(float(utilities.std()), 2.0 * float(np.median(errors)), SMALLEST_SCALE)
