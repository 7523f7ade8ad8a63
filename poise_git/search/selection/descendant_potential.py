"""Descendant potential as in the paper: a Gaussian process predicts the gain of descendants for every node.

Its labels are gains over a node's own noisy utility, so nodes with unlucky measurements get the highest labels
(docs/selection.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poise_git.search.selection.interface import ModelSkill, Node, Survey
from poise_git.search.selection.model_skill import rank_correlation

Vector = NDArray[np.float64]

# Fit the process to at most this many labeled nodes: half with the most descendants, whose labels are the least noisy,
# and half spread evenly over the utilities.
FITTED = 128
LENGTH_SCALES = (0.5, 1.0, 2.0)
# The share of the labels' variance that one descendant more or less may change.
LUCK_SHARE = 0.5
COMMON_MECHANISMS = 8
TEXT_DIMENSIONS = 3
# Read the texts of this many of the newest candidates and of the fitted ones; other texts count as average.
READ = 256


@dataclass(frozen=True)
class Label:
    """y_d, the variance of its noise, and the number of descendants in its mean."""

    value: float
    variance: float
    descendants: int


@dataclass(frozen=True)
class Potential:
    """μ(d) and σ(d) of every node (n,), the quantities that update σ, and the skill on held-out lineages."""

    mean: Vector
    variance: Vector
    knowledge: ModelSkill
    labels: Mapping[str, Label]
    features: Vector
    whitened: Vector
    kernel: Any
    noise: float

    def deviation(self, taken: Sequence[int]) -> Vector:
        """σ(d) after the nodes `taken` are expanded (n,), with any result."""
        variance, earlier = self.variance.copy(), list[Vector]()
        for place in taken:
            with_all = self.kernel(self.features, self.features[place : place + 1])[:, 0]
            covariance = with_all - self.whitened.T @ self.whitened[:, place]
            covariance = covariance - sum((vector * vector[place] for vector in earlier), np.zeros(len(variance)))
            vector = covariance / math.sqrt(max(covariance[place], 0.0) + self.noise)
            earlier.append(vector)
            variance = variance - vector**2
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def descendant_gain(survey: Survey, *, gamma: float, beta: float, top: int) -> dict[str, Label]:
    """y_d = mean over the top-min(K, n) descendants c of gamma^depth(c, d) tanh((U_c - U_d) / beta), by node.

    The top K are ranked by the discounted gain itself. A node without descendants has no label: undefined, not 0.
    Its noise comes from the utilities, and decreases with the number of descendants.
    """
    nodes = survey.nodes
    pairs = [
        (above, place, steps) for place, above_it in enumerate(_ancestors(survey)) for above, steps in above_it.items()
    ]
    if not pairs:
        return {}
    ancestors, descendants, steps = np.array(pairs).T
    utilities = np.array([node.utility for node in nodes])
    noises = np.array([(node.error / beta) ** 2 for node in nodes])
    gains = gamma**steps * np.tanh((utilities[descendants] - utilities[ancestors]) / beta)
    order = np.lexsort((-gains, ancestors))
    places, starts, counts = np.unique(ancestors[order], return_index=True, return_counts=True)
    labels = {}
    for place, start, count in zip(places, starts, counts, strict=True):
        best = order[start : start + min(top, count)]
        noise = float((gamma ** (2 * steps[best]) * noises[descendants[best]]).sum()) / len(best) ** 2
        labels[nodes[place].name] = Label(float(gains[best].mean()), float(noises[place]) + noise, int(count))
    return labels


def predict_potential(survey: Survey, labels: Mapping[str, Label]) -> Potential:
    """A Gaussian process (Matérn 5/2, scikit-learn) on features of nodes, fitted to the labeled ones."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern

    fitted = _informative(survey, labels)
    rows = np.array([survey.place[name] for name in fitted])
    features = _features(survey, rows)
    values = np.array([labels[name].value for name in fitted])
    center, spread = float(values.mean()), float(values.std()) or 1.0
    noise = np.array([labels[name].variance / spread**2 + LUCK_SHARE / labels[name].descendants for name in fitted])
    processes = [
        GaussianProcessRegressor(Matern(scale * math.sqrt(features.shape[1]), nu=2.5), alpha=noise, optimizer=None).fit(
            features[rows], (values - center) / spread
        )
        for scale in LENGTH_SCALES
    ]
    best = max(processes, key=lambda process: float(process.log_marginal_likelihood_value_))
    across = best.kernel_(features[rows], features)
    from scipy.linalg import solve_triangular

    whitened = solve_triangular(best.L_, across, lower=True)
    return Potential(
        mean=center + spread * (across.T @ best.alpha_),
        variance=spread**2 * np.maximum(1.0 - (whitened**2).sum(0), 0.0),
        knowledge=_foresight(survey, fitted, best.kernel_(features[rows]) + np.diag(noise), (values - center) / spread),
        labels=labels,
        features=features,
        whitened=spread * whitened,
        kernel=_Scaled(best.kernel_, spread**2),
        noise=spread**2 * float(np.median(noise)),
    )


@dataclass(frozen=True)
class _Scaled:
    kernel: Any
    variance: float

    def __call__(self, left: Vector, right: Vector) -> Vector:
        return np.asarray(self.variance * self.kernel(left, right))


def _ancestors(survey: Survey) -> list[dict[int, int]]:
    """Every eligible ancestor of every node, by place, with the length of the shortest path to it."""
    found: list[dict[int, int]] = []
    for node in survey.nodes:
        own: dict[int, int] = {}
        for parent in (survey.place[name] for name in node.parents if name in survey.place):
            own[parent] = 1
            for above, steps in found[parent].items():
                own[above] = min(own.get(above, steps + 1), steps + 1)
        found.append(own)
    return found


def _informative(survey: Survey, labels: Mapping[str, Label]) -> list[str]:
    """The labeled nodes for the fit, in the order of the survey."""
    if len(labels) <= FITTED:
        return list(labels)
    by_descendants = sorted(labels, key=lambda name: (-labels[name].descendants, name))
    chosen = set(by_descendants[: FITTED // 2])
    rest = sorted(labels.keys() - chosen, key=lambda name: (survey.nodes[survey.place[name]].utility, name))
    chosen.update(rest[:: max(1, len(rest) // (FITTED // 2))][: FITTED // 2])
    return [name for name in labels if name in chosen]


def _features(survey: Survey, rows: NDArray[np.int64]) -> Vector:
    """Utility, gain over the parent, metrics, depth, dynamics, most common mechanisms, text; not the number of
    children."""
    nodes = survey.nodes
    utilities = np.array([node.utility for node in nodes])
    parents = np.array(survey.first_parents)
    gains = np.where(parents >= 0, utilities - utilities[np.maximum(parents, 0)], 0.0)
    profile = np.array([node.metrics for node in nodes]) - utilities[:, None]
    depths = np.array([float(node.depth) for node in nodes])
    blocks = [utilities[:, None], gains[:, None], profile, depths[:, None]]
    width = min(len(node.dynamics) for node in nodes)
    if width:
        blocks.append(np.nan_to_num(np.array([node.dynamics[:width] for node in nodes]), posinf=0.0, neginf=0.0))
    counts: dict[str, int] = {}
    for row in rows:
        for word in nodes[row].mechanisms:
            counts[word] = counts.get(word, 0) + 1
    common = sorted((word for word in counts if counts[word] < len(rows)), key=lambda word: (-counts[word], word))
    if common:
        kept = common[:COMMON_MECHANISMS]
        blocks.append(np.array([[float(word in node.mechanisms) for word in kept] for node in nodes]))
    blocks.append(_text_features(nodes, np.union1d(rows, np.arange(max(0, len(nodes) - READ), len(nodes)))))
    matrix = np.hstack(blocks)
    spread = matrix.std(axis=0)
    return np.asarray(np.clip((matrix - matrix.mean(axis=0)) / np.where(spread > 0, spread, 1.0), -4.0, 4.0))


def _text_features(nodes: Sequence[Node], read: NDArray[np.int64]) -> Vector:
    """The leading directions of the TF-IDF of the texts at the places `read` (n, at most TEXT_DIMENSIONS); others 0."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [nodes[place].text for place in read]
    if len(set(texts)) <= TEXT_DIMENSIONS:
        return np.zeros((len(nodes), 0))
    try:
        weighed = TfidfVectorizer(max_features=500, stop_words="english").fit_transform(texts).toarray()
    except ValueError:
        return np.zeros((len(nodes), 0))  # only stop words
    left, sizes, _ = np.linalg.svd(weighed - weighed.mean(axis=0), full_matrices=False)
    found = np.zeros((len(nodes), min(TEXT_DIMENSIONS, len(sizes))))
    found[read] = (left * sizes)[:, :TEXT_DIMENSIONS]
    return found


def _foresight(survey: Survey, fitted: Sequence[str], covariance: Vector, values: Vector) -> ModelSkill:
    """Predict each lineage from the others: y_B - (C⁻¹_BB)⁻¹ (C⁻¹ y)_B (Rasmussen and Williams 2006, 5.4.2)."""
    lineage = lineages(survey)
    names = [lineage[survey.place[name]] for name in fitted]
    precision = np.linalg.inv(covariance)
    weighted = precision @ values
    predicted = np.zeros(len(values))
    for line in set(names):
        block = np.array([place for place, name in enumerate(names) if name == line])
        predicted[block] = values[block] - np.linalg.solve(precision[np.ix_(block, block)], weighted[block])
    return rank_correlation(predicted, values, len(set(names)))


def lineages(survey: Survey) -> list[int]:
    """For every node, the place of its ancestor just below the root; a root is its own lineage."""
    found: list[int] = []
    for place, parent in enumerate(survey.first_parents):
        below_root = parent < 0 or survey.first_parents[parent] < 0
        found.append(place if below_root else found[parent])
    return found
