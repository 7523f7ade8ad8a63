"""An archive that the code of commit 4ea6386 made is still read, and reading changes nothing in it.

`archive-4ea6386.bundle` holds all branches and notes of a search of that code under its `tests/protocols/short.yaml`:
three candidates, one of them replicated and confirmed, an objective from a directive, and a branch by hand that
fails a check. Made with that commit's `poise-git`:

    poise-git init s; cp tests/protocols/short.yaml s/protocols/; cd s     # poise.yaml: protocol: short; committed
    poise-git evolve --candidates 3 --parents 2 --proposals 2 --seed 1 --directive "accurate and concise"
    git switch -c poise/zero-grpo poise/grpo                               # a stage returns NaN; committed
    git switch main; poise-git evaluate zero-grpo
    git gc --aggressive --prune=now; git bundle create archive-4ea6386.bundle --all
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from poise_git.archive import Archive
from poise_git.archive.documents import dump_yaml, load_yaml
from poise_git.archive.entries import Metrics, Proposal, Run, Status
from poise_git.archive.notes import latest_metrics, metrics_line, parse_lines, read_trajectory, run_line
from poise_git.archive.refs import METRICS_NOTES, TRAJECTORY_NOTES
from poise_git.cli.main import cli
from tests.archive.conftest import run_git

BUNDLE = Path(__file__).with_name("archive-4ea6386.bundle")
NAMES = ("dppo-gdpo-grpo", "ent-grpo", "gdpo-grpo", "grpo", "zero-grpo")
PROTOCOL = "5d09e364d662"


@pytest.fixture(scope="module")
def earlier(a_person: None, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A plain clone of the bundle, completed by the usual command."""
    root = tmp_path_factory.mktemp("earlier") / "archive"
    run_git(BUNDLE.parent, "clone", "--quiet", str(BUNDLE), str(root))
    done = CliRunner().invoke(cli, ["-C", str(root), "doctor", "--repair"])
    assert "archive is sound" in done.output, done.output
    return Archive.open(root)


def refs(archive: Archive) -> str:
    return run_git(archive.root, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/notes")


def in_bundle() -> set[str]:
    heads = run_git(BUNDLE.parent, "bundle", "list-heads", str(BUNDLE)).splitlines()
    return {line for line in heads if not line.endswith(" HEAD")}


def notes_of(archive: Archive, ref: str) -> dict[str, list[str]]:
    """The lines of every note, by the commit that it is on."""
    listed = run_git(archive.root, "notes", f"--ref={ref}", "list").splitlines()
    blobs = {commit: blob for blob, commit in (line.split() for line in listed)}
    return {commit: run_git(archive.root, "cat-file", "blob", blob).splitlines() for commit, blob in blobs.items()}


def test_a_clone_is_complete_with_every_branch_and_note(earlier: Archive) -> None:
    genealogy = earlier.genealogy()
    assert tuple(sorted(node.name for node in genealogy)) == NAMES
    status = {node.name: node.status_under(PROTOCOL) for node in genealogy}
    assert [name for name in NAMES if status[name] is Status.EVALUATED] == list(NAMES[:-1])
    assert status["zero-grpo"] is Status.FAILED
    of_notes = {line for line in in_bundle() if " refs/notes/" in line}
    assert of_notes <= set(refs(earlier).splitlines())
    for name in NAMES[:-1]:
        assert earlier.runs(name), name
        assert earlier.proposal(name), name
        assert earlier.reflection(name) or name == "grpo", name
    assert all(run.isolation is None for run in earlier.runs("grpo"))
    assert earlier.directives()[0]["directive"] == "accurate and concise"
    assert len(earlier.rounds()) == 3


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        (("log",), "unverified: a run was archived before isolation was recorded (4 candidates)"),
        (("log", "--json"), '"zero-grpo"'),
        (("show", "gdpo-grpo"), "Correctness and format normalised apart (GDPO)"),
        (("show", "zero-grpo"), "failed at advantage-shape"),
        (("show", "ent-grpo", "--json"), '"ent-grpo"'),
        (("best",), "best: gdpo-grpo"),
        (("select",), "dppo-gdpo-grpo"),
        (("context", "gdpo-grpo"), "accurate and concise"),
        (("status",), "short"),
    ],
)
def test_every_reading_command_reads_an_earlier_archive(earlier: Archive, verb: tuple[str, ...], said: str) -> None:
    before = refs(earlier)
    done = CliRunner().invoke(cli, ["-C", str(earlier.root), *verb])
    assert done.exit_code == 0, done.output
    assert said in done.output
    assert refs(earlier) == before


@pytest.mark.parametrize("name", NAMES)
def test_documents_are_written_in_the_earlier_form(earlier: Archive, name: str) -> None:
    for file, kind in (("proposal.yaml", Proposal), ("metrics.yaml", Metrics)):
        path = f"evidence/{name}/{file}"
        if (name, kind) == ("zero-grpo", Proposal):
            continue
        text = run_git(earlier.root, "show", f"evidence/{name}:{path}")
        assert dump_yaml(kind.from_data(load_yaml(text, path)).to_data()) == text


def test_notes_are_written_in_the_earlier_form(earlier: Archive) -> None:
    for node in earlier.genealogy():
        for line in notes_of(earlier, METRICS_NOTES).get(node.commit, []):
            (data,) = parse_lines(line)
            (found,) = latest_metrics(line).values()
            assert metrics_line(found, data["at"]) == line
        for line in notes_of(earlier, TRAJECTORY_NOTES).get(node.commit, []):
            (data,) = parse_lines(line)
            (run,) = read_trajectory(line, data["algorithm"], data["at"]).runs
            # As figures: a step's number, 0, is read as 0.0.
            assert json.loads(run_line(run, data["at"], data["algorithm"])) == data
            assert Run.from_data(run.to_data()) == run
