from __future__ import annotations

import random

import pytest

from tests.benchmarks.lineage_replay import Replay, compare, replay
from tests.benchmarks.recorded_lineage import SEEDS, ByLot, Lineage, deceptiveness
from tests.benchmarks.search_efficiency import POLICIES


@pytest.fixture(scope="module")
def lineage() -> Lineage:
    return Lineage.load()


def test_the_record_is_complete(lineage: Lineage) -> None:
    names = set()
    for entry in lineage.candidates:
        assert set(entry.parents) <= names, f"{entry.name} stands before its parent"
        assert len(entry.utilities) == len(entry.metrics) == len(SEEDS)
        names.add(entry.name)
    assert len(names) == len(lineage.candidates) >= 100


@pytest.mark.parametrize("name", POLICIES)
def test_a_replay_reveals_only_recorded_children_and_is_reproducible(name: str, lineage: Lineage) -> None:
    found = replay(lineage, POLICIES[name], repeat=3, budget=12)
    assert len(found) == 13
    assert found == replay(lineage, POLICIES[name], repeat=3, budget=12)


def test_a_child_is_revealed_once_and_after_its_parent(lineage: Lineage) -> None:
    world = Replay(lineage, 0, random.Random(1))
    while world.open:
        world.expand(world.open[-1])
    assert sorted(world.revealed) == sorted(entry.name for entry in lineage.candidates)
    for place, name in enumerate(world.revealed):
        assert set(lineage.by_name[name].parents) <= set(world.revealed[:place])


def test_measurement_and_truth_come_from_different_seeds(lineage: Lineage) -> None:
    world = Replay(lineage, 1, random.Random(0))
    assert world.survey(10).nodes[0].utility == lineage.candidates[0].utilities[1]
    assert replay(lineage, ByLot(), repeat=1, budget=1)[0] == lineage.candidates[0].utilities[0]


def test_the_record_gives_all_figures(lineage: Lineage) -> None:
    found = deceptiveness(lineage)
    share = found["strongest_descendant_not_of_the_leader"]
    assert 0.0 <= share["low"] <= share["value"] <= share["high"] <= 1.0
    assert found["line_of_the_best"][0]["name"] == "grpo"
    compared = compare(lineage, {"tree": POLICIES["tree"], "uniform": POLICIES["uniform"]}, repeats=2)
    assert set(compared) == {"tree", "uniform"}
