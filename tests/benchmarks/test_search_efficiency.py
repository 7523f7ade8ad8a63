from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.benchmarks.search_efficiency import POLICIES, read, run, search, survey_of
from tests.benchmarks.search_efficiency_report import write_report
from tests.benchmarks.selection_rivals import RIVALS
from tests.benchmarks.selection_worlds import LANDSCAPES, Rugged, Smooth, World


@pytest.mark.parametrize("landscape", LANDSCAPES)
def test_the_nth_child_of_a_node_does_not_depend_on_other_expansions(landscape: str) -> None:
    one, other = (World(landscape, 3, 0.15) for _ in range(2))
    for place in (0, 0, 1):
        one.expand(place)
    for place in (0, 1, 0):
        other.expand(place)
    assert one.evaluated[2].utility == other.evaluated[3].utility
    assert one.evaluated[3].utility == other.evaluated[2].utility
    assert one.evaluated[0].true == pytest.approx(0.0, abs=1e-6)


def test_a_replication_averages_independent_noise() -> None:
    errors = []
    for number in range(200):
        world = World("smooth", number, 0.3)
        for _ in range(8):
            world.evaluate_again(0)
        errors.append(world.evaluated[0].utility - world.evaluated[0].true)
    assert np.std(errors) == pytest.approx(0.3 / 3, rel=0.2)


def test_the_optimum_is_1() -> None:
    assert Smooth().worth(np.zeros((1, 5)))[0] == 1.0
    rugged = Rugged(5)
    genomes = ((np.arange(2**16)[:, None] >> np.arange(16)) & 1).astype(float)
    assert rugged.worth(genomes).max() == pytest.approx(1.0)


@pytest.mark.parametrize("name", RIVALS)
def test_rivals_choose_distinct_existing_nodes(name: str) -> None:
    world = World("many-objectives", 1, 0.15)
    for place in (0, 0, 0, 1, 2, 4, 1, 0):
        world.expand(place)
    survey = survey_of(world, 30)
    for seed in range(10):
        choices = [choice.name for choice in RIVALS[name].select(survey, 3, seed).choices]
        assert len(set(choices)) == 3
        assert set(choices) <= set(survey.place)


def test_greedy_selects_the_best_measured_nodes() -> None:
    world = World("smooth", 2, 0.05)
    for _ in range(6):
        world.expand(0)
    names = [choice.name for choice in RIVALS["greedy"].select(survey_of(world, 30), 2, 0).choices]
    order = sorted(range(7), key=lambda place: -world.evaluated[place].utility)
    assert names == [f"n{place}" for place in order[:2]]


def test_a_search_is_reproducible() -> None:
    assert search("rugged", 0.15, 4, "tree") == search("rugged", 0.15, 4, "tree")


@pytest.mark.slow
def test_run_resumes_after_a_stop_and_report_writes_tables_and_figure(tmp_path: Path) -> None:
    names, landscapes = ["tree", "greedy", "uniform"], ["smooth", "deceptive"]
    run(tmp_path, names, landscapes, range(2), workers=2)
    whole = (tmp_path / "searches.jsonl").read_text()
    (tmp_path / "searches.jsonl").write_text(whole[: len(whole) // 2])
    assert len(list(read(tmp_path))) < 2 * 3 * 2 * 3
    (tmp_path / "searches.jsonl").write_text(whole[: len(whole) // 2].rpartition("\n")[0] + "\n")
    run(tmp_path, names, landscapes, range(2), workers=2)
    assert sorted((tmp_path / "searches.jsonl").read_text().splitlines()) == sorted(whole.splitlines())
    write_report(list(read(tmp_path)), tmp_path)
    document = yaml.safe_load((tmp_path / "report.yaml").read_text())
    assert {cell["landscape"] for cell in document} == set(landscapes)
    assert all(set(cell["policies"]) == set(names) for cell in document)
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_the_benchmark_covers_every_policy() -> None:
    from poise_git.search.selection import POLICIES as ours

    assert set(ours) <= set(POLICIES)
