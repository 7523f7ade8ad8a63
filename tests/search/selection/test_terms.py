from __future__ import annotations

import numpy as np

from poise_git.search.selection.terms import performance_term


def test_candidates_that_violate_a_constraint_rank_last_in_their_own_order() -> None:
    utilities = np.array([0.1, 0.9, 0.2, 0.8])
    value = performance_term(utilities, np.array([True, False, True, False]))
    assert value.argsort().tolist() == [3, 1, 0, 2]
    assert value.max() == 1.0


def test_only_utility_counts_if_all_or_none_keep_the_constraints() -> None:
    utilities = np.array([0.1, 0.9, 0.2, 0.8])
    for feasible in (np.ones(4, dtype=bool), np.zeros(4, dtype=bool)):
        assert performance_term(utilities, feasible).tolist() == performance_term(utilities).tolist()
