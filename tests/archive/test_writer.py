from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poise_git.archive import Archive
from poise_git.archive.entries import Metrics, Reflection, Run, Status
from poise_git.archive.facts import ReflectionFacts
from poise_git.errors import ArchiveError, NameTaken, UnknownCandidate, UsageError
from poise_git.untrusted.display import visible

from .conftest import ALGORITHM, PROTOCOL, Git, algorithm_of, make_metrics, make_proposal, run_git

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)


def fingerprint(folder: Path) -> dict[str, bytes]:
    """Every file of the work tree, the index, and HEAD."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts]
    files += [folder / ".git" / "index", folder / ".git" / "HEAD"]
    return {str(path): path.read_bytes() for path in files}


def test_a_candidate_is_one_commit_that_changes_only_the_algorithm(archive: Archive, git: Git) -> None:
    x = archive.add_candidate(make_proposal("x"), ALGORITHM + "# x\n")
    assert git("log", "--format=%s", "poise/grpo..poise/x") == "algorithm(x): the mechanism of x\n"
    assert git("diff", "--name-only", "poise/grpo", "poise/x") == "recipe/algorithm.py\n"
    assert git("show", "poise/x:recipe/algorithm.py") == ALGORITHM + "# x\n"
    assert git("rev-parse", "evidence/x~1", "poise/x").split() == [x.commit, x.commit]
    assert git("diff", "--name-only", "poise/x", "evidence/x") == "evidence/x/proposal.yaml\n"
    assert archive.proposal("x") == make_proposal("x")
    git("fsck", "--strict")


def test_a_crossover_is_a_merge_of_both_parents(archive: Archive, git: Git) -> None:
    x = archive.add_candidate(make_proposal("x"), "# x\n")
    y = archive.add_candidate(make_proposal("y"), "# y\n")
    archive.add_candidate(make_proposal("xy", "x", second_parent="y"), "# xy\n")
    assert git("log", "-1", "--format=%P", "poise/xy").split() == [x.commit, y.commit]
    assert git("diff", "--name-only", "poise/x", "poise/xy") == "recipe/algorithm.py\n"


def test_evidence_is_a_branch_with_files_a_subject_with_the_result_and_notes(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    reflection = Reflection(
        ReflectionFacts.from_data({"verdict": "better", "claims": [{"held": True}]}), "It held.\n\n---\n\nNext: more.\n"
    )
    archive.add_evidence("x", make_metrics(), reflection)
    assert git("log", "--format=%s", "poise/x..evidence/x").splitlines() == [
        "evidence(x): U 0.752 ± 0.009, +0.021 vs grpo",
        "evidence(x): proposal",
    ]
    assert archive.metrics_file("x") == make_metrics(algorithm=algorithm_of(archive, "x"))
    assert archive.reflection("x") == reflection
    assert '"U":[0.752,0.009,4]' in git("notes", "--ref=poise/metrics", "show", "poise/x")
    assert "It held." in git("notes", "--ref=poise/reflection", "show", "poise/x")


def test_later_evidence_is_added_and_the_latest_counts(archive: Archive, git: Git) -> None:
    archive.add_evidence("grpo", make_metrics(0.1, gain=None), Reflection(ReflectionFacts(), "first"))
    archive.add_evidence("grpo", make_metrics(0.2, gain=None), None)
    archive.add_evidence("grpo", make_metrics(0.3, gain=None, protocol="other"), None)
    metrics = archive.genealogy().root.metrics
    assert {key: value.utility.value for key, value in metrics.items() if value.utility} == {
        PROTOCOL: 0.2,
        "other": 0.3,
    }
    assert archive.reflection("grpo") == Reflection(ReflectionFacts(), "first")
    assert len(git("log", "--format=%h", "poise/grpo..evidence/grpo").splitlines()) == 4


def test_a_failure_keeps_both_branches_with_status_and_reason(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("x"), "not python (")
    archive.add_evidence("x", Metrics(Status.FAILED, PROTOCOL, stage="static", reason="line 1:\nnot closed"), None)
    assert git("log", "-1", "--format=%s", "evidence/x") == "evidence(x): failed at static: line 1: not closed\n"
    found = archive.metrics_file("x")
    algorithm = algorithm_of(archive, "x")
    assert found == Metrics(Status.FAILED, PROTOCOL, stage="static", reason="line 1:\nnot closed", algorithm=algorithm)
    assert archive.reflection("x") is None


def test_runs_are_kept_one_by_one(archive: Archive) -> None:
    runs = [Run(PROTOCOL, seed, {"a": seed / 3}, {}, {"reward": (0.1, 0.2)}, ({"step": 1.0},), 7.0) for seed in (1, 0)]
    for run in runs:
        archive.add_run("grpo", run)
    assert archive.runs("grpo") == (runs[1], runs[0])


@pytest.mark.parametrize("branch", ["main", "poise/x", "evidence/x"])
def test_work_tree_and_index_are_never_touched(archive: Archive, git: Git, branch: str) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    git("switch", "-q", branch)
    (archive.root / "README.md").write_text("edited\r\n")
    (archive.root / "untracked").write_text("mine\n")
    (archive.root / "recipe" / "algorithm.py").write_text("staged\n")
    git("add", "recipe/algorithm.py")
    (archive.root / "recipe" / "algorithm.py").write_text("edited again\n")
    before = fingerprint(archive.root)

    archive.add_candidate(make_proposal("y", "x"), "# y\n")
    archive.add_evidence("x", make_metrics(), Reflection(ReflectionFacts(), "prose"))
    archive.add_run("x", Run(PROTOCOL, 0, {}, {}, {}, (), 1.0))
    archive.write_round(1, {"number": 1})

    assert fingerprint(archive.root) == before
    assert archive.recipe("x")["algorithm.py"] == "# x\n"


def test_a_detached_head_does_not_matter(archive: Archive, git: Git) -> None:
    git("switch", "-q", "--detach", "main")
    archive.add_candidate(make_proposal("x"), "# x\n")
    assert [candidate.name for candidate in archive.genealogy()] == ["grpo", "x"]


def test_a_hooks_environment_does_not_redirect_the_writer(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    run_git(other, "init", "-q")
    (other / ".git" / "index").write_bytes(b"not to be read")
    for variable, value in {
        "GIT_DIR": other / ".git",
        "GIT_WORK_TREE": other,
        "GIT_INDEX_FILE": other / ".git" / "index",
        "GIT_OBJECT_DIRECTORY": other / ".git" / "objects",
        "GIT_COMMON_DIR": other / ".git",
        "GIT_PREFIX": "sub/",
    }.items():
        monkeypatch.setenv(variable, str(value))
    opened = Archive.open(archive.root)
    opened.add_candidate(make_proposal("x"), "# x\n")
    assert [candidate.name for candidate in opened.genealogy()] == ["grpo", "x"]
    created = Archive.create(tmp_path / "new", {"recipe/algorithm.py": ALGORITHM}, {})
    assert (created.root / "recipe" / "algorithm.py").read_text() == ALGORITHM
    assert not list((other / ".git" / "objects").rglob("*.pack"))
    assert not list((other / ".git" / "refs").rglob("x"))


def test_commits_have_the_identity_of_the_user(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    assert git("log", "-1", "--format=%an <%ae> %cn", "poise/x") == "Ada <ada@example.org> Ada\n"


def test_no_git_identity_is_needed(archive: Archive, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Archive.open(archive.root).add_candidate(make_proposal("x"), "# x\n")
    assert git("log", "-1", "--format=%an <%ae>", "poise/x") == "poise-git <poise-git@localhost>\n"
    assert "user." not in git("config", "--list", "--name-only"), "a fallback is not written down"


def test_a_taken_name_is_refused_and_the_first_candidate_stays(archive: Archive) -> None:
    first = archive.add_candidate(make_proposal("x"), "# x\n")
    with pytest.raises(NameTaken, match="x already exists"):
        archive.add_candidate(make_proposal("x"), "# another\n")
    assert archive.genealogy()["x"] == first


def test_bad_input_is_an_error_of_one_line_and_leaves_nothing_behind(archive: Archive) -> None:
    before = archive.repository.refs()
    with pytest.raises(UnknownCandidate, match="its parent nobody"):
        archive.add_candidate(make_proposal("x", "nobody"), "# x\n")
    with pytest.raises(UsageError, match="lower-case"):
        archive.add_candidate(make_proposal("Not A Name"), "# x\n")
    with pytest.raises(ArchiveError, match=r"recipe/algorithm.py: holds a NUL"):
        archive.add_candidate(make_proposal("x"), "a\0b")
    with pytest.raises(ArchiveError, match="not valid Unicode"):
        archive.add_candidate(make_proposal("x"), "a\ud800b")
    for action in (lambda: archive.add_evidence("nobody", make_metrics(), None), lambda: archive.runs("No Name")):
        with pytest.raises((UnknownCandidate, UsageError)):
            action()
    assert archive.repository.refs() == before


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mechanism=TEXT, hypothesis=TEXT, source=TEXT, prose=TEXT)
def test_any_text_is_read_back_from_git(
    archive: Archive, tmp_path: Path, mechanism: str, hypothesis: str, source: str, prose: str
) -> None:
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    shutil.copytree(archive.root, tmp_path / "copy")
    copy = Archive.open(tmp_path / "copy")
    proposal = make_proposal("x", mechanism=mechanism, hypothesis=hypothesis)
    written = copy.add_candidate(proposal, source)
    copy.add_evidence("x", make_metrics(), Reflection(ReflectionFacts.from_data({"said": prose}), prose))
    read = copy.genealogy()["x"]
    assert (read.mechanism, read.hypothesis, read.parents) == (written.mechanism, written.hypothesis, ("grpo",))
    assert copy.proposal("x") == proposal
    assert copy.recipe("x")["algorithm.py"] == source
    assert copy.reflection("x") == Reflection(ReflectionFacts.from_data({"said": prose}), visible(prose))


def test_a_path_of_candidates_can_be_cherry_picked_into_another_archive(
    archive: Archive, made_once: Path, tmp_path: Path
) -> None:
    archive.add_candidate(make_proposal("x"), ALGORITHM + "# x\n")
    archive.add_candidate(make_proposal("y", "x"), ALGORITHM + "# x\n# y\n")
    shutil.copytree(made_once, tmp_path / "other")
    run_git(tmp_path / "other", "fetch", "-q", str(archive.root), "poise/y")
    run_git(tmp_path / "other", "cherry-pick", "poise/grpo..FETCH_HEAD")
    assert (tmp_path / "other" / "recipe" / "algorithm.py").read_text() == ALGORITHM + "# x\n# y\n"
    assert "Poise-Candidate: y" in run_git(tmp_path / "other", "log", "-1")


def test_many_small_packs_are_rolled_up(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise_git.archive.git.MANY_PACKS", 4)
    for number in range(12):
        archive.add_candidate(make_proposal(f"c{number}"), f"# {number}\n")
    assert len(list((archive.root / ".git" / "objects" / "pack").glob("*.pack"))) <= 5
    assert [archive.recipe(f"c{number}")["algorithm.py"] for number in range(12)] == [f"# {n}\n" for n in range(12)]
    archive.maintain()
    assert archive.examine({}) == ()
