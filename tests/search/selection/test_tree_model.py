"""The message passing is compared with the same model as one large Gaussian."""

from __future__ import annotations

import numpy as np
import pytest

from poise_git.search.selection import tree_model
from poise_git.search.selection.tree_model import RHO, Tree, TreeModel, tree_of

FORWARD = np.array([[1.0, 1.0, 1.0], [0.0, RHO, 0.0], [0.0, 0.0, 1.0]])


def random_tree(n: int, seed: int) -> Tree:
    generator = np.random.default_rng(seed)
    parents = [-1, *(int(generator.integers(0, place)) for place in range(1, n))]
    return tree_of(parents, generator.normal(0.0, 1.0, n), generator.uniform(0.1, 0.5, n))


def dense(tree: Tree, luck: float, values: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean (n, 3), covariance (3n, 3n) and log evidence (up to the Gaussian's constant) of all states."""
    n = len(tree.parents)
    inherited = luck * tree_model.INHERITED_SHARE
    spread = np.diag([luck, (1 - RHO**2) * inherited, 0.0])
    covariance, mean = np.zeros((3 * n, 3 * n)), np.zeros(3 * n)
    covariance[:3, :3] = np.diag([tree_model.ROOT_VARIANCE, inherited, tree_model.MEAN_GAIN_DEVIATION**2])
    mean[2] = tree_model.MEAN_GAIN
    for place in range(1, n):
        own, above = slice(3 * place, 3 * place + 3), slice(3 * tree.parents[place], 3 * tree.parents[place] + 3)
        covariance[own, : 3 * place] = FORWARD @ covariance[above, : 3 * place]
        covariance[: 3 * place, own] = covariance[own, : 3 * place].T
        covariance[own, own] = FORWARD @ covariance[above, above] @ FORWARD.T + spread
        mean[own] = FORWARD @ mean[above]
    seen = np.zeros((n, 3 * n))
    seen[np.arange(n), 3 * np.arange(n)] = 1.0
    total = seen @ covariance @ seen.T + np.diag(noise)
    residual = values - seen @ mean
    weight = covariance @ seen.T @ np.linalg.inv(total)
    evidence = -0.5 * residual @ np.linalg.solve(total, residual) - 0.5 * np.linalg.slogdet(total)[1]
    return (mean + weight @ residual).reshape(n, 3), covariance - weight @ seen @ covariance, float(evidence)


@pytest.mark.parametrize("seed", range(3))
def test_two_passes_over_the_tree_give_the_exact_posterior(seed: int) -> None:
    tree = random_tree(40, seed)
    model = TreeModel(tree)
    clipped, center, scale = model._standardized
    values, noise = (clipped - center) / scale, (tree.errors / scale) ** 2
    fits = [dense(tree, luck, values, noise) for luck in tree_model.LUCK_VARIANCES]
    evidence = np.array([fit[2] for fit in fits])
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()
    utility = sum(weight * fit[0][:, 0] for weight, fit in zip(weights, fits, strict=True))
    child = sum(weight * fit[0].sum(1) for weight, fit in zip(weights, fits, strict=True))
    assert model.posterior.utility == pytest.approx(center + scale * utility)
    assert model.posterior.child == pytest.approx(center + scale * child)
    square = sum(weight * (fit[0][:, 0] ** 2 + np.diag(fit[1])[::3]) for weight, fit in zip(weights, fits, strict=True))
    assert model.posterior.utility_deviation == pytest.approx(scale * np.sqrt(square - utility**2))


def test_a_node_is_predicted_without_its_descendants() -> None:
    tree = random_tree(12, 3)
    place = 1
    descendants: set[int] = set()
    for child in range(place + 1, 12):
        if tree.parents[child] in {place, *descendants}:
            descendants.add(child)
    assert descendants
    clipped, center, scale = TreeModel(tree)._standardized
    values, noise = (clipped - center) / scale, (tree.errors / scale) ** 2
    unseen = noise.copy()
    unseen[list(descendants)] = 1e12
    luck = tree_model.LUCK_VARIANCES[0]
    expected = dense(tree, luck, values, unseen)[0][place].sum()
    found = tree_model._smooth(tree, values, 1.0 / noise).predicted[place, 0]
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_planned_measurement_reduces_the_deviation() -> None:
    model = TreeModel(random_tree(30, 4))
    assert model.child_deviation([]) == pytest.approx(model.posterior.child_deviation)
    narrowed = model.child_deviation([5])
    assert narrowed[5] < 0.95 * model.posterior.child_deviation[5]
    assert (narrowed <= model.posterior.child_deviation + 1e-9).all()


def test_planned_children_reduce_variance_as_existing_ones_do() -> None:
    tree, expected, precision = random_tree(30, 4), [5, 5, 12, 0], 2.5
    precisions = np.linspace(0.5, 9.0, len(tree.parents))
    found = tree_model._with_children(tree, tree_model._upward(tree, precisions), precision, expected)
    larger = Tree(np.append(tree.parents, expected), np.zeros(34), np.ones(34))
    whole = tree_model._upward(larger, np.append(precisions, [precision] * 4))
    covariances = tree_model._covariances(tree, found), tree_model._covariances(larger, whole)[:30]
    assert covariances[0] == pytest.approx(covariances[1], rel=1e-9)


def test_noisy_utilities_are_shrunk_and_bad_luck_is_no_advantage() -> None:
    parents = [-1] + [0] * 6
    values = [0.5, 0.5, 0.51, 0.49, 0.5, 0.52, 0.40]
    believed = TreeModel(tree_of(parents, values, [0.05] * 7)).posterior
    assert abs(believed.utility[6] - 0.5) < abs(values[6] - 0.5)
    assert believed.child[6] < believed.child[5]
