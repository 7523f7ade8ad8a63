"""The table of advantages: GRPO's own advantages are one of its points."""

from __future__ import annotations

import pytest
import torch
from calibration import ROOT, recipe_of
from ceiling import Result, Shape, TableAlgorithm, report

from poise_git.pipeline.boundary.opening import trusted_algorithm

INDEX = ["a"] * 8 + ["b"] * 8 + ["c"] * 8


def batch(scores: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.ones(len(scores), 3)
    rewards = torch.zeros(len(scores), 3)
    rewards[:, -1] = torch.tensor(scores)
    return rewards, mask


def test_the_first_table_has_the_advantages_of_grpo() -> None:
    """Up to the factor between a group's deviation with n and with n - 1, which is the same for every group."""
    rewards, mask = batch([1.0] * 3 + [0.0] * 5 + [1.0] + [0.0] * 7 + [0.0] * 8)
    shape, grpo = Shape(8, 2), trusted_algorithm(recipe_of(ROOT))
    table = TableAlgorithm(shape, shape.table(shape.of_grpo()))
    found, expected = table.advantages(rewards, mask, INDEX), grpo.advantages(rewards, mask, INDEX)
    torch.testing.assert_close(found * (7 / 8) ** 0.5, expected, atol=1e-5, rtol=1e-5)


def test_an_entry_is_for_a_level_and_a_count() -> None:
    shape = Shape(8, 3)
    entries = [float(entry) for entry in range(shape.entries)]
    rewards, mask = batch([1.0, 1.0, 0.4] + [0.0] * 5 + [0.4] * 8 + [0.0] * 8)
    found = TableAlgorithm(shape, shape.table(entries)).advantages(rewards, mask, INDEX)[:, 0].tolist()
    table = shape.table(entries)
    # Group a: two correct and three valid; group b: eight valid, none correct; group c: nothing.
    assert found[0] == table[0, 2, 2] + table[1, 2, 3]
    assert found[2] == table[0, 1, 2] + table[1, 1, 3]
    assert found[3] == table[0, 0, 2] + table[1, 0, 3]
    assert found[8] == table[0, 1, 0] + table[1, 1, 8]
    assert found[16] == table[0, 0, 0] + table[1, 0, 0]


def test_the_report_compares_the_last_test() -> None:
    def results(generation: int, gain: float) -> list[Result]:
        return [Result("long", generation, m, seed, 0.8 + m * gain) for m in (0, 1) for seed in (0, 1)]

    searched = [Result("long", 0, 0, 0, 0.7)]
    text = report([*searched, *results(-10, 0.05), *results(-20, 0.1)], None)
    assert text.splitlines()[2:] == ["| long | 0.800 | +0.1000 ± 0.0000 | – | – |"]
    assert report(searched, None).count("\n") == 1


def test_levels_beyond_three_do_not_exist() -> None:
    assert Shape(8, 2).entries == 18
    assert Shape(8, 3).entries == 54
    with pytest.raises(RuntimeError):
        Shape(8, 2).table([0.0] * 17)
