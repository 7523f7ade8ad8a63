"""The output of plain git for a search: `git lineage` prints one line with the result of each candidate."""

from __future__ import annotations

import re
from pathlib import Path

from poise_git.archive import Archive
from poise_git.archive.entries import Estimate, Metrics, Reflection, Status
from poise_git.archive.facts import ReflectionFacts
from poise_git.archive.refs import RESULT_NOTES

from .conftest import Git, make_metrics, make_proposal, run_git

GAIN = Estimate(0.0213, 0.0033, 4, 0.0104)


def lineage(git: Git) -> str:
    return re.sub(r"\b[0-9a-f]{7,}\b", "COMMIT", git("lineage"))


def test_the_graph_has_a_line_with_the_result(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    archive.add_candidate(make_proposal("y", "x"), "# y\n")
    archive.add_candidate(make_proposal("z", "x"), "# z\n")
    archive.add_evidence("grpo", make_metrics(0.2, gain=None), None)
    archive.add_evidence("x", make_metrics(0.2213, gain=GAIN), Reflection(ReflectionFacts(), "prose"))
    archive.add_evidence("y", Metrics(Status.FAILED, "p", stage="numeric", reason="loss is NaN"), None)
    assert lineage(git) == (
        "* COMMIT  (poise/z) algorithm(z): the mechanism of z\n"
        "| * COMMIT failed at numeric: loss is NaN (poise/y) algorithm(y): the mechanism of y\n"
        "|/  \n"
        "* COMMIT U 0.2213 ± 0.0090  +0.0213 ± 0.0104 * vs grpo (poise/x) algorithm(x): the mechanism of x\n"
        "* COMMIT U 0.2000 ± 0.0090 (HEAD -> main, poise/grpo) algorithm(grpo): GRPO: the root algorithm\n"
        "* COMMIT  archive: template\n"
    )


def test_a_gain_within_its_interval_has_no_star_and_the_newest_result_counts(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    archive.add_evidence("x", make_metrics(0.2213, gain=GAIN), None)
    archive.add_evidence("x", make_metrics(0.2013, gain=Estimate(0.0013, 0.0033, 4, 0.0104)), None)
    assert "U 0.2013 ± 0.0090  +0.0013 ± 0.0104 vs grpo (poise/x) algorithm(x)" in lineage(git)
    assert "0.2213" not in lineage(git)


def test_an_older_archive_is_repaired(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    archive.add_evidence("x", make_metrics(0.2213, gain=GAIN), None)
    before = lineage(git)
    git("update-ref", "-d", RESULT_NOTES)
    (finding,) = (each for each in archive.examine({}) if each.where == RESULT_NOTES)
    assert finding.repairable
    archive.repair({})
    assert lineage(git) == before
    assert archive.examine({}) == ()


def test_a_clone_has_the_results(archive: Archive, git: Git, tmp_path: Path) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    archive.add_evidence("x", make_metrics(0.2213, gain=GAIN), None)
    run_git(tmp_path, "clone", "-q", str(archive.root), "clone")
    clone = Archive.complete(tmp_path / "clone")
    clone.repair({})
    assert run_git(clone.root, "lineage").count("+0.0213 ± 0.0104 *") == 1


def test_an_amended_algorithm_has_no_result(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    archive.add_evidence("x", make_metrics(0.2213, gain=GAIN), None)
    git("switch", "-q", "poise/x")
    (archive.root / "recipe" / "algorithm.py").write_text("# another\n")
    git("commit", "-q", "--amend", "--no-edit", "--no-verify", "-a")
    archive.repair({})
    assert "0.2213" not in lineage(git)
