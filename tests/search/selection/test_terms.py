from __future__ import annotations

import numpy as np

from poise_git.search.selection.terms import performance_term


def test_what_breaks_a_constraint_stands_below_what_keeps_them_all_and_in_its_own_order() -> None:
    utilities = np.array([0.1, 0.9, 0.2, 0.8])
    value = performance_term(utilities, np.array([True, False, True, False]))
    assert value.argsort().tolist() == [3, 1, 0, 2]
    assert value.max() == 1.0


def test_where_everybody_or_nobody_keeps_the_constraints_utility_alone_counts() -> None:
    utilities = np.array([0.1, 0.9, 0.2, 0.8])
    for feasible in (np.ones(4, dtype=bool), np.zeros(4, dtype=bool)):
        assert performance_term(utilities, feasible).tolist() == performance_term(utilities).tolist()
