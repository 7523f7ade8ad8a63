"""Bad input gives one clear line and an exit code, and loses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.pipeline.backends.testbed.settings import parse_settings
from poise_git.pipeline.equipment import gpu_devices
from poise_git.pipeline.protocol import load_protocol
from tests import sentences
from tests.conftest import git
from tests.in_process import poise_git
from tests.layers import without_warning


def as_a_process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "poise_git", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def assert_one_clear_line(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = without_warning(done.stderr).strip().splitlines()
    assert len(lines) == 1, done.stderr
    for part in parts:
        assert part in lines[0], lines[0]


@pytest.mark.parametrize("verb", ["status", "log", "best", "select", "doctor", "evolve"])
def test_a_directory_that_is_no_archive_is_refused(verb: str, tmp_path: Path) -> None:
    assert_one_clear_line(poise_git("-C", tmp_path, verb), 1, str(tmp_path), "poise-git init")


@pytest.mark.slow
def test_a_separate_process_gives_the_same_errors(tiny_archive: Archive, tmp_path: Path) -> None:
    """The other tests run the program in the test process."""
    assert_one_clear_line(as_a_process("-C", tmp_path, "status"), 1, str(tmp_path), "poise-git init")
    assert_one_clear_line(as_a_process("-C", tiny_archive.root, "status", "--protocol", "nope"), 2, "nope", "tiny")
    assert as_a_process("-C", tiny_archive.root, "frobnicate").returncode == 2
    assert as_a_process("-C", tiny_archive.root, "status").returncode == 0


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    assert_one_clear_line(poise_git("-C", tmp_path / "nowhere", "log"), 1, "nowhere")


def test_a_repository_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("mine")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "mine")
    before = git(tmp_path, "for-each-ref")
    assert_one_clear_line(poise_git("evolve", tmp_path), 1, str(tmp_path))
    assert_one_clear_line(poise_git("init", tmp_path), 1, str(tmp_path))
    assert_one_clear_line(poise_git("-C", tmp_path, "log"), 1, str(tmp_path))
    assert git(tmp_path, "for-each-ref") == before
    assert git(tmp_path, "status", "--porcelain") == ""


def test_a_directory_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert_one_clear_line(poise_git("init", tmp_path), 1, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("  parents: 3", "  parents: none", "search.parents"),
        ("  parents: 3", "  parent: 3", "search.parent"),
        ("version: 1", "version: [", "not YAML"),
        ('directive: ""', "directive: !!binary 2024", "not YAML"),
        ("  metrics: {}", "  metrics: {composite: .inf}", "objective.metrics.composite"),
    ],
)
@pytest.mark.parametrize("committed", [True, False])
def test_a_broken_poise_yaml_names_line_and_field(
    tiny_archive: Archive, old: str, new: str, place: str, committed: bool
) -> None:
    settings = tiny_archive.root / "poise.yaml"
    text = settings.read_text()
    assert old in text
    settings.write_text(text.replace(old, new))
    if committed:
        git(tiny_archive.root, "commit", "-qam", "broken")
    done = poise_git("-C", tiny_archive.root, "status")
    assert_one_clear_line(done, 2, "poise.yaml:", place)


def test_uncommitted_settings_are_reported(tiny_archive: Archive) -> None:
    settings = tiny_archive.root / "poise.yaml"
    settings.write_text(settings.read_text().replace("seed: 0", "seed: 1"))
    assert_one_clear_line(poise_git("-C", tiny_archive.root, "evolve"), 2, "poise.yaml", "git commit")
    assert "seed: 1" in settings.read_text()


def test_a_dirty_work_tree_is_not_changed(tiny_archive: Archive) -> None:
    algorithm = tiny_archive.root / "recipe" / "algorithm.py"
    algorithm.write_text("half an idea")
    (tiny_archive.root / "scribble").write_text("mine")
    assert poise_git("-C", tiny_archive.root, "status").returncode == 0
    assert algorithm.read_text() == "half an idea"
    assert (tiny_archive.root / "scribble").read_text() == "mine"


def test_unknown_names_are_errors(tiny_archive: Archive) -> None:
    root = tiny_archive.root
    assert_one_clear_line(poise_git("-C", root, "show", "grop"), 1, "grop", "grpo")
    assert_one_clear_line(poise_git("-C", root, "status", "--protocol", "nope"), 2, "nope", "tiny")
    assert_one_clear_line(poise_git("-C", root, "evolve", "--agent", "nobody"), 2, "nobody", "library")
    assert_one_clear_line(poise_git("-C", root, "diff", "grpo"), 2, "root")
    assert_one_clear_line(poise_git("-C", root, "confirm", "grpo"), 2, "confirmation_seeds")
    assert_one_clear_line(poise_git("-C", root, "select"), 1, "poise-git evolve")
    assert_one_clear_line(poise_git("-C", root, "best"), 1, "poise-git evolve")
    assert poise_git("-C", root, "frobnicate").returncode == 2
    assert poise_git("-C", root, "evolve", "--candidates", "0").returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ("search: {weights: {perf: -0.5}}", "search.weights.perf"),
        ("search: {weights: {pareto: 0, perf: 0, div: 0, bayes: 0}}", "search.weights"),
        ("search: {top_descendants: 0}", "search.top_descendants"),
        ("search: {parents: 0}", "search.parents"),
        ("search: {gamma: 0}", "search.gamma"),
        ("search: {gamma: 1.5}", "search.gamma"),
        ("search: {gamma: .nan}", "search.gamma"),
        ("search: {policy: best}", "search.policy"),
        ("search: {exploration_share: 2}", "search.exploration_share"),
        ("search: {resamples: -1}", "search.resamples"),
        ("search: {screening: {novelty: 2}}", "search.screening.novelty"),
        ("search: {screening: {promise: 1}}", "search.screening.promise"),
        ("search: {screening: {consistency: 0, feasibility: 0, novelty: 0, improvement: 0}}", "search.screening"),
        ("objective: {metrics: {overall: -1}}", "objective.metrics.overall.weight"),
        ("objective: {metrics: {overall: 0, composite: {weight: 0}}}", "objective: metrics: the weights must sum"),
        ("objective: {metrics: {overall: {direction: shorter}}}", "objective.metrics.overall.direction"),
        ("objective: {metrics: {overall: {scale: 0}}}", "objective.metrics.overall.scale"),
        ("objective: {constraints: [{metric: overall}]}", "objective.constraints.0: needs one bound"),
        (
            "objective: {constraints: [{metric: overall, at_least: 0, at_most: 1}]}",
            "objective.constraints.0: needs one bound",
        ),
        ("objective: {constraints: [{metric: overall, at_least: grpo}]}", "objective.constraints.0.at_least: expected"),
        ("objective: {constraints: [{metric: overall, at_least: .nan}]}", "objective.constraints.0.at_least: expected"),
        ("objective: {composite: 1}", "objective.composite: unknown field"),
    ],
)
@pytest.mark.parametrize("verb", ["select", "evolve"])
def test_contradictory_settings_of_a_search_are_refused(
    verb: str, settings: str, field: str, tiny_archive: Archive
) -> None:
    root = tiny_archive.root
    (root / "poise.yaml").write_text(f"protocol: tiny\n{settings}\n")
    git(root, "commit", "-qm", "settings", "poise.yaml")
    before = git(root, "for-each-ref")
    assert_one_clear_line(poise_git("-C", root, verb), 2, "poise.yaml:2", field)
    assert git(root, "for-each-ref") == before


def test_a_malformed_card_is_refused(tiny_archive: Archive) -> None:
    root = tiny_archive.root
    assert sentences.CONTEXT_LITERATURE in poise_git("-C", root, "context", "grpo").stdout
    text = (root / "literature" / "cispo.yaml").read_text()
    mine = root / "literature" / "mine.yaml"
    mine.write_text(text.replace("name: cispo", "name: mine").replace("arxiv:", "arxive:"))
    git(root, "add", "literature")
    git(root, "commit", "-qm", "a card")
    assert_one_clear_line(poise_git("-C", root, "context", "grpo"), 2, "literature/mine.yaml:", "arxiv")
    mine.write_text(text)
    git(root, "commit", "-qam", "the same card again")
    before = git(root, "for-each-ref")
    assert_one_clear_line(
        poise_git("-C", root, "evolve"),
        2,
        "literature/mine.yaml:1: name: cispo is also the name of literature/cispo.yaml",
    )
    assert git(root, "for-each-ref") == before


def test_a_figure_that_is_no_number_in_an_old_entry_is_reported(tiny_archive: Archive) -> None:
    root = tiny_archive.root
    hash_ = json.loads(poise_git("-C", root, "status", "--json").stdout)["protocol"]["hash"]
    note = {
        "U": [float("nan"), 0.1, 2], "gain": None, "y": {"accuracy": [0.5, 0.1, 2]}, "status": "evaluated",
        "protocol": hash_, "seeds": [0, 1], "cpu": 1.0, "at": 1.0, "v": 1,
    }  # fmt: skip
    git(root, "notes", "--ref=poise/metrics", "add", "-m", json.dumps(note), "poise/grpo")
    before = git(root, "for-each-ref")
    done = poise_git("-C", root, "select")
    assert done.returncode == 1
    suspicion, end = done.stderr.splitlines()
    assert "grpo is suspicious: a note says U nan" in suspicion
    assert f"{sentences.DOES_NOT_COUNT}; run: git " in suspicion
    assert "notes --ref=poise/metrics remove poise/grpo && poise-git evaluate grpo" in suspicion
    assert "poise-git evolve" in end
    assert git(root, "for-each-ref") == before


@pytest.mark.parametrize(("parent", "why"), [("nobody", "not a candidate"), ("mine", "descends from it")])
def test_an_invalid_parent_is_refused(tiny_archive: Archive, parent: str, why: str) -> None:
    root = tiny_archive.root
    message = f"algorithm(mine): an idea\n\nPoise-Candidate: mine\nPoise-Parent: {parent}\n"
    tree = git(root, "rev-parse", "poise/grpo^{tree}").strip()
    commit = git(root, "commit-tree", "-p", "poise/grpo", "-m", message, tree).strip()
    git(root, "branch", "poise/mine", commit)
    before = git(root, "for-each-ref", "refs/heads")
    assert_one_clear_line(poise_git("-C", root, "select"), 1, "mine", commit[:10], "Poise-Parent", parent, why)
    assert git(root, "for-each-ref", "refs/heads") == before


def test_a_file_that_does_not_parse_is_refused(tiny_archive: Archive, tmp_path: Path) -> None:
    file = tmp_path / "algorithm.py"
    file.write_text("def broken(:\n")
    assert_one_clear_line(poise_git("-C", tiny_archive.root, "check", "--file", file), 1, "line 1")
    file.write_bytes(b"\xff\xfe\x00garbage")
    assert_one_clear_line(poise_git("-C", tiny_archive.root, "check", "--file", file), 1)


def test_init_is_relative_to_option_c(tmp_path: Path) -> None:
    assert poise_git("-C", tmp_path, "init", "search", "--directive", 'short "answers" # please').returncode == 0
    assert 'directive: "short \\"answers\\" # please"' in (tmp_path / "search" / "poise.yaml").read_text()
    assert poise_git("-C", tmp_path / "search", "status").returncode == 0


def test_the_device_of_an_archive_is_in_its_protocols(tmp_path: Path) -> None:
    assert poise_git("init", "on-gpu", "--device", "cuda", cwd=tmp_path).returncode == 0
    assert_one_clear_line(poise_git("evolve", "on-gpu", "--device", "cpu", cwd=tmp_path), 2, "testbed.yaml", "cuda")
    for protocol in ("testbed", "quick", "screening"):
        file = (tmp_path / "on-gpu" / "protocols" / f"{protocol}.yaml").read_text()
        assert parse_settings(load_protocol(file, protocol), protocol).device == "cuda"


@pytest.mark.skipif(bool(gpu_devices()), reason="this machine has a GPU")
def test_a_missing_gpu_is_refused(tmp_path: Path) -> None:
    done = poise_git("evolve", "search", "--device", "cuda", cwd=tmp_path)
    assert done.returncode == 2
    assert "GPU" in done.stderr.splitlines()[-1]


def test_a_device_is_refused_for_a_backend_with_its_own_setting(tmp_path: Path) -> None:
    done = poise_git("init", "search", "--backend", "verl", "--device", "cuda", cwd=tmp_path)
    assert_one_clear_line(done, 2, "--device", "verl")
    assert list(tmp_path.iterdir()) == []
