"""Parent selection: the four-term acquisition of POISE, s(d) = sum of w_k * term_k(d).

    pareto  1 / (1 + rank of the node's front among metric vectors)
    perf    U, min-max over the eligible nodes
    div     how unlike the others its mechanism is, less the more children it has already
    bayes   upper confidence bound of a Gaussian process on discounted descendant gain (arXiv:2603.23951)

`bayes` takes part once enough nodes have descendants; until then its weight is shared out among the others.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from poise_git.search.pareto import front_ranks
from poise_git.search.potential import descendant_gain, upper_confidence
from poise_git.settings import SearchSettings

NEIGHBOURS = 5


@dataclass(frozen=True)
class Node:
    """What selection knows of an eligible (evaluated) candidate. `features` are words that describe its mechanism."""

    name: str
    parents: tuple[str, ...]
    utility: float
    metrics: tuple[float, ...]
    features: frozenset[str]
    depth: int


@dataclass(frozen=True)
class Terms:
    pareto: float
    perf: float
    div: float
    bayes: float | None


@dataclass(frozen=True)
class Ranked:
    """One eligible node with its terms and its score s(d)."""

    node: Node
    children: int
    terms: Terms
    score: float


@dataclass(frozen=True)
class Choice:
    """One chosen parent and why."""

    name: str
    reason: str


def rank(nodes: Sequence[Node], settings: SearchSettings, beta: float) -> list[Ranked]:
    """Every eligible node with its terms, best score first. `beta` is the scale of U in the descendant gain."""
    children = {node.name: 0 for node in nodes}
    for node in nodes:
        for parent in node.parents:
            if parent in children:
                children[parent] += 1
    fronts = front_ranks({node.name: node.metrics for node in nodes})
    performance = _min_max({node.name: node.utility for node in nodes})
    potential = _potential(nodes, settings, beta)
    weights = settings.weights
    ranked = []
    for node in nodes:
        terms = Terms(
            pareto=1.0 / (1.0 + fronts[node.name]),
            perf=performance[node.name],
            div=_distance(node, nodes) / (1.0 + children[node.name]),
            bayes=None if potential is None else potential[node.name],
        )
        weighted = [(weights.pareto, terms.pareto), (weights.perf, terms.perf), (weights.div, terms.div)]
        if terms.bayes is not None:
            weighted.append((weights.bayes, terms.bayes))
        total = sum(weight for weight, _ in weighted) or 1.0
        score = sum(weight * term for weight, term in weighted) / total
        ranked.append(Ranked(node, children[node.name], terms, score))
    return sorted(ranked, key=lambda entry: (-entry.score, entry.node.name))


def choose_parents(ranked: Sequence[Ranked], settings: SearchSettings, seed: int) -> list[Choice]:
    """`settings.parents` parents for one round.

    Slots go to the best score, no two parents of one round being parent and child while there is a choice; the last
    `reserved_slots` go to a node with the fewest children, drawn by lot, because stepping stones score below their
    parents. With fewer eligible nodes than slots, nodes repeat.
    """
    lot = random.Random(seed)
    chosen: list[Choice] = []
    taken: list[Ranked] = []
    reserved = min(settings.reserved_slots, settings.parents - 1) if len(ranked) > 1 else 0

    while len(chosen) < settings.parents - reserved:
        free = [entry for entry in ranked if entry not in taken] or list(ranked)
        unrelated = [entry for entry in free if not any(_related(entry.node, other.node) for other in taken)]
        best = (unrelated or free)[0]
        taken.append(best)
        place = ranked.index(best) + 1
        chosen.append(Choice(best.node.name, f"score {best.score:.3f}, place {place} of {len(ranked)}"))

    while len(chosen) < settings.parents:
        free = [entry for entry in ranked if entry not in taken] or list(ranked)
        fewest = min(entry.children for entry in free)
        drawn = lot.choice([entry for entry in free if entry.children == fewest])
        taken.append(drawn)
        chosen.append(Choice(drawn.node.name, f"reserved slot: drawn among nodes with {fewest} children"))
    return chosen


def _potential(nodes: Sequence[Node], settings: SearchSettings, beta: float) -> dict[str, float] | None:
    labels = descendant_gain(
        {node.name: node.utility for node in nodes},
        {node.name: node.parents for node in nodes},
        gamma=settings.gamma,
        beta=beta,
        top=settings.top_descendants,
    )
    if len(labels) < settings.bayes_after:
        return None
    features = {node.name: (node.utility, float(node.depth), *node.metrics) for node in nodes}
    return _min_max(upper_confidence(features, labels, kappa=settings.kappa))


def _distance(node: Node, nodes: Sequence[Node]) -> float:
    """Mean Jaccard distance of the mechanism's words to the nearest other nodes'."""
    distances = sorted(
        1.0 - len(node.features & other.features) / max(len(node.features | other.features), 1)
        for other in nodes
        if other.name != node.name
    )[:NEIGHBOURS]
    return sum(distances) / len(distances) if distances else 1.0


def _related(left: Node, right: Node) -> bool:
    return left.name == right.name or left.name in right.parents or right.name in left.parents


def _min_max(values: Mapping[str, float]) -> dict[str, float]:
    low, high = min(values.values()), max(values.values())
    if math.isclose(low, high):
        return dict.fromkeys(values, 0.5)
    return {name: (value - low) / (high - low) for name, value in values.items()}
