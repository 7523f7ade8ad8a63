from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise_git.archive import Archive
from poise_git.archive.entries import Estimate, Metrics, Run, Status, Violation
from poise_git.archive.notes import (
    append,
    latest_metrics,
    latest_runs,
    metrics_line,
    note_paths,
    parse_lines,
    run_line,
    unreadable_lines,
)
from poise_git.archive.refs import TRAJECTORY_NOTES

from .conftest import PROTOCOL, Git, algorithm_of, make_metrics, make_proposal

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
FLOAT = st.floats(allow_nan=False)


def make_run(seed: int, value: float = 0.5, protocol: str = PROTOCOL) -> Run:
    return Run(protocol, seed, {"chain-2": value}, {"chain-2": {"acc@1": value}}, {"reward": (0.1, value)}, (), 7.0)


@given(TEXT, FLOAT, FLOAT, TEXT, st.integers(0, 9))
def test_a_run_is_read_back_exactly(protocol: str, value: float, other: float, name: str, seed: int) -> None:
    run = Run(protocol, seed, {name: value}, {name: {name: other}}, {name: (value, other)}, ({"step": 1.0},), 1.0)
    assert latest_runs(append("", [run_line(run, 1.0, "b")]), "b") == (run,)


def test_a_series_with_a_step_that_has_no_value_is_read_back() -> None:
    run = Run(PROTOCOL, 0, {}, {}, {"length_of_correct": (math.nan, math.inf)}, (), 1.0)
    first, second = latest_runs(run_line(run, 1.0, "b"), "b")[0].series["length_of_correct"]
    assert math.isnan(first)
    assert second == math.inf


def test_one_line_holds_the_metrics_for_selection() -> None:
    line = metrics_line(make_metrics(0.123456789), 5.0)
    assert "\n" not in line
    assert line.startswith('{"U":[0.123457,0.009,4],"gain":[0.021,0.006,4,0.013]')
    assert latest_metrics(line) == {PROTOCOL: make_metrics(0.123457, details={})}


@given(stage=TEXT, reason=TEXT)
def test_a_failure_is_one_line_for_any_reason(stage: str, reason: str) -> None:
    line = metrics_line(Metrics(Status.FAILED, "p", stage=stage, reason=reason), 1.0)
    found = latest_metrics(append("", [line]))["p"]
    assert (found.status, found.stage) == (Status.FAILED, stage)
    assert len(found.reason) <= 200
    assert "\n" not in line


def test_the_latest_line_counts_in_any_order() -> None:
    """`cat_sort_uniq` sorts the lines of two clones by their text."""
    lines = [metrics_line(make_metrics(value), at) for at, value in enumerate([0.9, 0.1, 0.5, 0.3])]
    lines.append(metrics_line(make_metrics(0.7, protocol="other"), 0.0))
    runs = [run_line(make_run(seed, at / 10), float(at), "b") for at in range(4) for seed in (1, 0)]
    for seed in range(5):
        random.Random(seed).shuffle(lines)
        random.Random(seed).shuffle(runs)
        found = latest_metrics(append("", lines))
        assert {key: metrics.utility.value for key, metrics in found.items() if metrics.utility} == {
            PROTOCOL: 0.3,
            "other": 0.7,
        }
        assert latest_runs(append("", runs), "b") == (make_run(0, 0.3), make_run(1, 0.3))


@pytest.mark.parametrize(
    "line", ["reviewed, looks fine", '{"v":1}', '{"at":"x"}', "[]", "null", '{"at":1,"v":99}', "{"]
)
def test_lines_in_other_formats_are_ignored(line: str) -> None:
    ours = metrics_line(make_metrics(), 1.0)
    assert len(latest_metrics(append(line, [ours]))) == 1
    assert list(parse_lines(line)) == []


def test_broken_lines_are_reported_but_prose_is_not() -> None:
    assert unreadable_lines(append("words", [metrics_line(make_metrics(), 1.0), '{"U":[0.7'])) == ['{"U":[0.7']


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_note_is_found_at_any_depth_and_moves_to_the_usual_path_on_append(
    archive: Archive, git: Git, depth: int
) -> None:
    commit = archive.add_candidate(make_proposal("x"), "# x\n").commit
    path = note_paths(commit)[depth]
    blob = git(
        "hash-object", "-w", "--stdin", stdin=run_line(make_run(0), 1.0, algorithm_of(archive, "x")) + "\n"
    ).strip()
    stream = f"commit {TRAJECTORY_NOTES}\ncommitter A <a@b> 1 +0000\ndata 0\nM 100644 {blob} {path}\n\n"
    git("fast-import", "--quiet", stdin=stream)
    assert archive.runs("x") == (make_run(0),)

    archive.add_run("x", make_run(1))

    assert archive.runs("x") == (make_run(0), make_run(1))
    assert git("ls-tree", "-r", "--name-only", TRAJECTORY_NOTES).split() == [note_paths(commit)[1]]
    assert len(git("notes", "--ref=poise/trajectory", "show", commit).splitlines()) == 2


def test_the_objective_and_its_violations_are_read_back() -> None:
    broken = (
        Violation("mean_length", "at most 12", Estimate(1.5, None, 1)),
        Violation("overall", "at least grpo's", Estimate(0.25, 0.125, 4, 0.5)),
    )
    further = {"mean_length": Estimate(13.5, 0.25, 4)}
    metrics = make_metrics(0.5, objective="0123456789ab", further=further, violations=broken, details={})
    assert latest_metrics(metrics_line(metrics, 1.0)) == {PROTOCOL: metrics}
    assert Metrics.from_data(metrics.to_data()) == metrics
    failed = Metrics(Status.FAILED, PROTOCOL, objective="0123456789ab", stage="objective", reason="no length")
    assert latest_metrics(metrics_line(failed, 1.0)) == {PROTOCOL: failed}
    assert Metrics.from_data(failed.to_data()) == failed


def test_entries_from_before_constraints_violate_none() -> None:
    line = '{"U":[0.5,0.01,4],"gain":null,"y":{},"status":"evaluated","protocol":"p","seeds":[0],"at":1.0,"v":1}'
    found = latest_metrics(line)["p"]
    assert (found.objective, found.violations) == ("", ())
    assert Metrics.from_data({"status": "evaluated", "protocol": "p"}).violations == ()


def test_notes_keep_figures_when_they_are_undefined() -> None:
    single = make_metrics(utility=Estimate(0.5, None, 1), gain=None, details={})
    assert latest_metrics(metrics_line(single, 1.0)) == {PROTOCOL: single}
