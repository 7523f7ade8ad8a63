from __future__ import annotations

import numpy as np
import pytest

from poise_git.search.selection.exploration_share import LEAST, MOST, best_of_line, learn_exploration_share
from tests import sentences


def climbing(n: int) -> tuple[list[int], np.ndarray]:
    """A chain, each better than its parent."""
    return [place - 1 for place in range(n)], np.linspace(0.0, 3.0, n)


def stalled(n: int, *, paid: bool) -> tuple[list[int], np.ndarray]:
    """Children of the root that all fell; every second one has a child, which rose if detours `paid`."""
    parents, utilities = [-1], [1.0]
    for place in range(1, n):
        if place % 2:
            parents.append(0)
            utilities.append(0.0)
        else:
            parents.append(place - 1)
            utilities.append(1.5 if paid else 0.1)
    return parents, np.array(utilities)


def test_the_share_is_smallest_while_the_best_utility_rises() -> None:
    found = learn_exploration_share(*climbing(20), spread=1.0, error=0.1)
    assert found.share == pytest.approx(LEAST, abs=0.01)
    assert found.detours == 0


def test_the_share_is_largest_if_progress_stalls_and_detours_pay() -> None:
    found = learn_exploration_share(*stalled(25, paid=True), spread=1.0, error=0.1)
    assert found.detours == found.paid == 12
    assert found.share == pytest.approx(MOST)


def test_noise_weakens_the_effect_of_detours_that_do_not_pay() -> None:
    parents, utilities = stalled(41, paid=False)
    surely, hardly = (learn_exploration_share(parents, utilities, spread=1.0, error=error) for error in (0.1, 2.0))
    assert (surely.detours, surely.paid) == (20, 0)
    assert LEAST < surely.share < hardly.share < MOST
    assert sentences.DETOURS_SUCCEEDED.format(succeeded=0, all=20) in surely.statement


def test_an_archive_with_only_the_root_has_a_share() -> None:
    assert learn_exploration_share([-1], np.array([0.5]), spread=1.0, error=0.1).share == LEAST


def test_the_best_of_a_lineage_is_on_the_path_from_the_root() -> None:
    assert best_of_line([-1, 0, 1, 0], np.array([1.0, 3.0, 2.0, 0.0])).tolist() == [1.0, 3.0, 3.0, 1.0]
