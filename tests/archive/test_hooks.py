"""The hooks, run by git as for a person."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.archive.configure import HOOK_MARK, install_hooks
from poise_git.archive.messages import parse_candidate
from poise_git.package_data import hook_files
from tests import sentences

from .conftest import PROTOCOL, Git, algorithm_of, make_metrics, make_proposal, run_git

pytestmark = pytest.mark.slow

RECIPE = "recipe/algorithm.py"


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """poise-git as a command that hooks find."""
    program = tmp_path / "bin" / "poise-git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m poise_git "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def edit(archive: Archive, path: str, text: str) -> None:
    (archive.root / path).write_text(text)


def valid(archive: Archive, change: str = "") -> str:
    """An algorithm that the static checks pass."""
    return (
        "def compute_advantages(token_level_rewards, response_mask, index, config=None, **kwargs):\n"
        "    return scale(token_level_rewards), token_level_rewards\n\n\n"
        "def scale(signal, kappa=0.5):\n    return signal * kappa\n\n\n"
        "def policy_loss(old_log_prob, log_prob, advantages, response_mask, loss_agg_mode='token-mean', config=None,"
        f" rollout_is_weights=None):\n    return log_prob.mean(), {{}}\n{change}"
    )


def branch(archive: Archive, git: Git, name: str, off: str = "grpo") -> None:
    git("switch", "-q", "-c", f"poise/{name}", f"poise/{off}")
    edit(archive, RECIPE, valid(archive, f"# {name}\n"))


def commit(archive: Archive, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", archive.root, "commit", *arguments], capture_output=True, text=True)


def test_every_shipped_hook_has_its_mark() -> None:
    assert set(hook_files()) == {
        "pre-commit", "pre-merge-commit", "prepare-commit-msg", "commit-msg", "post-commit", "post-rewrite", "pre-push",
        "reference-transaction", "poise-hook.sh",
    }  # fmt: skip
    assert all(HOOK_MARK in script for script in hook_files().values())


def test_a_commit_of_a_candidate_may_change_only_the_algorithm(archive: Archive, git: Git) -> None:
    git("switch", "-q", "-c", "poise/x", "poise/grpo")
    edit(archive, RECIPE, "# x\n")
    edit(archive, "README.md", "changed\n")
    git("add", ".")
    with pytest.raises(AssertionError, match=r"README\.md\n.*git restore --staged README\.md"):
        git("commit", "-qm", "both")
    git("restore", "--staged", "README.md")
    git("commit", "-qm", "the algorithm")
    assert git("show", "--format=", "--name-only", "HEAD") == "recipe/algorithm.py\n"


def test_other_branches_are_not_restricted(archive: Archive, git: Git) -> None:
    edit(archive, "README.md", "changed\n")
    git("commit", "-qam", "docs")
    assert git("log", "-1", "--format=%B") == "docs\n\n"


@pytest.mark.usefixtures("on_path")
def test_the_staged_algorithm_is_checked_not_the_work_tree(archive: Archive, git: Git) -> None:
    git("switch", "-q", "-c", "poise/x", "poise/grpo")
    edit(archive, RECIPE, valid(archive) + "import os\n")
    refused = commit(archive, "-qam", "it reaches out")
    assert refused.returncode == 1
    assert "check imports failed" in refused.stderr
    assert "imports os" in refused.stderr
    assert "--no-verify" in refused.stderr

    edit(archive, RECIPE, valid(archive))
    git("add", RECIPE)
    edit(archive, RECIPE, "def broken(:\n")
    git("commit", "-qm", "what is staged is sound")
    assert git("show", f"HEAD:{RECIPE}") == valid(archive)
    assert commit(archive, "-qam", "what is not").returncode == 1
    assert commit(archive, "-qm", "nor by its path", RECIPE).returncode == 1


@pytest.mark.parametrize("message", ["docs", "code"])
def test_hooks_without_poise_git_refuse_nothing_and_report_skipped_checks(
    archive: Archive, git: Git, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    git("switch", "-q", "-c", "poise/x" if message == "code" else "docs", "poise/grpo")
    edit(archive, RECIPE if message == "code" else "README.md", "import os\n")
    done = commit(archive, "-qam", message)
    assert done.returncode == 0
    skipped = [line for line in done.stderr.splitlines() if "not on PATH: skipped" in line]
    assert len(skipped) == (2 if message == "code" else 0)


def test_a_commit_of_a_candidate_gets_its_trailers(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("a"), "# a\n")
    git("switch", "-q", "-c", "poise/b", "poise/a")
    edit(archive, RECIPE, "# b\n")
    git("commit", "-qam", "try the median\n\nA line.\n---\nAfter a cut.")
    said = parse_candidate(git("log", "-1", "--format=%B"))
    assert (said.name, said.parents, said.mechanism) == ("b", ("a",), "try the median")
    assert said.hypothesis == "A line.\n---\nAfter a cut."

    edit(archive, RECIPE, "# b, better\n")
    git("commit", "-qa", "--amend", "-m", "try the trimmed mean")
    assert parse_candidate(git("log", "-1", "--format=%B")).parents == ("a",)
    message = git("log", "-1", "--format=%B")
    git("commit", "-qa", "--amend", "--no-edit")
    assert git("log", "-1", "--format=%B") == message
    assert archive.genealogy()["b"].parents == ("a",)


def test_trailers_of_another_candidate_are_corrected(archive: Archive, git: Git) -> None:
    """A message copied from another candidate, and one that was rebased onto another parent."""
    for name in ("a", "b"):
        archive.add_candidate(make_proposal(name), f"# {name}\n")
    git("switch", "-q", "-c", "poise/c", "poise/b")
    edit(archive, RECIPE, "# c\n")
    git("commit", "-qa", "-C", "poise/a")
    said = parse_candidate(git("log", "-1", "--format=%B"))
    assert (said.name, said.parents, said.family, said.agent) == ("c", ("b",), "baseline", "library")
    git("rebase", "-q", "-X", "theirs", "--onto", "poise/a", "poise/b", "poise/c")
    assert parse_candidate(git("log", "-1", "--format=%B")).parents == ("b",)
    git("commit", "-q", "--amend", "--no-edit")
    assert parse_candidate(git("log", "-1", "--format=%B")).parents == ("a",)


def test_a_crossover_by_plain_merge_names_both_parents(archive: Archive, git: Git) -> None:
    source = archive.recipe("grpo")["algorithm.py"]
    archive.add_candidate(make_proposal("a"), f"# a\n{source}")
    archive.add_candidate(make_proposal("b"), f"{source}# b\n")
    git("switch", "-q", "-c", "poise/ab", "poise/a")
    git("merge", "-q", "--no-ff", "-m", "cross a and b", "poise/b")
    assert parse_candidate(git("log", "-1", "--format=%B")).parents == ("a", "b")
    assert archive.genealogy()["ab"].parents == ("a", "b")
    assert archive.recipe("ab")["algorithm.py"] == f"# a\n{source}# b\n"
    git("commit", "-q", "--amend", "-m", "cross them")
    assert parse_candidate(git("log", "-1", "--format=%B")).parents == ("a", "b")


@pytest.mark.usefixtures("on_path")
def test_a_crossover_is_checked(archive: Archive, git: Git) -> None:
    source = archive.recipe("grpo")["algorithm.py"]
    archive.add_candidate(make_proposal("a"), f"# a\n{source}")
    archive.add_candidate(make_proposal("b"), f"{source}import os\n")
    git("switch", "-q", "-c", "poise/ab", "poise/a")
    with pytest.raises(AssertionError, match="check imports failed"):
        git("merge", "-q", "--no-ff", "-m", "cross a and b", "poise/b")


@pytest.mark.usefixtures("on_path")
@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("Knobs: scale.kappa = half", "not a knob"),
        ("Knobs: scale.kappa = 0.7", "its default in the code is 0.5"),
        ("Knobs: scale.lambda = 0.7", "no function of the code"),
        ("Claims: It helps. [efect figure=utility direction=up]", "unknown check 'efect'; known: reduction, order"),
        ("Claims: It helps. [effect figure=utility]", "effect needs direction="),
        ("Claims: It helps. [effect figure=utility direction=higher]", "direction is up or down"),
    ],
)
def test_an_invalid_message_is_refused_and_kept(archive: Archive, git: Git, statement: str, problem: str) -> None:
    branch(archive, git, "x")
    refused = commit(archive, "-qam", f"a mechanism\n\n{statement}")
    assert refused.returncode == 1
    assert problem in refused.stderr
    command = refused.stderr.strip().rpartition("edit it and commit: ")[2]
    assert command.startswith("git commit -e -F ")
    kept = (archive.root / command.split()[-1]).read_text()
    assert statement in kept
    (archive.root / "message").write_text(kept.replace(statement, "Knobs: scale.kappa = 0.5"))
    git("commit", "-qa", "-F", "message")
    assert archive.stated_proposal(archive.genealogy()["x"]).knobs == {"scale.kappa": 0.5}


@pytest.mark.usefixtures("on_path")
def test_the_editor_opens_with_the_message_template(
    archive: Archive, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(archive, "candidate-message.txt", "algorithm(NAME): \n# the mechanism\n\nClaims:\n- It helps. [reading]\n")
    git("add", ".")
    git("commit", "-qm", "a template")
    branch(archive, git, "x")
    monkeypatch.setenv("GIT_EDITOR", "true")
    refused = commit(archive, "-qa", "-v")
    assert refused.returncode == 1, "the unchanged template states nothing"
    monkeypatch.setenv("GIT_EDITOR", "sed -i '1s/$/try the median/'")
    git("commit", "-qa", "-v")
    said = parse_candidate(git("log", "-1", "--format=%B"))
    assert (said.name, said.mechanism) == ("x", "try the median")
    assert [claim.statement for claim in said.claims] == ["It helps."]
    assert "# the mechanism" not in git("log", "-1", "--format=%B")


def test_the_next_commands_are_printed(archive: Archive, git: Git) -> None:
    branch(archive, git, "x")
    assert "poise-git evaluate x" in commit(archive, "-qam", "a mechanism").stderr


@pytest.mark.usefixtures("on_path")
def test_notes_and_evidence_follow_an_amended_message(archive: Archive, git: Git) -> None:
    branch(archive, git, "x")
    git("commit", "-qam", "a mechanism\n\nOld words.")
    old = archive.genealogy()["x"].commit
    archive.add_proposal(archive.stated_proposal(archive.genealogy()["x"]))
    archive.add_evidence("x", make_metrics(), None)
    git("commit", "-q", "--amend", "-m", "a mechanism\n\nNew words.\n\nKnobs: scale.kappa = 0.5")
    candidate = archive.genealogy()["x"]
    assert candidate.commit != old
    assert candidate.metrics == {PROTOCOL: make_metrics(details={}, algorithm=algorithm_of(archive, "x"))}
    proposal = archive.proposal("x")
    assert proposal is not None
    assert (proposal.hypothesis, proposal.knobs) == ("New words.", {"scale.kappa": 0.5})
    assert archive.metrics_file("x") == make_metrics(algorithm=algorithm_of(archive, "x"))
    assert archive.conformity() == ()
    assert archive.examine(hook_files()) == ()
    assert old in git("rev-list", "evidence/x").split()
    assert "evidence(x): U 0.752" in git("log", "-1", "--format=%s", "evidence/x")


@pytest.mark.usefixtures("on_path")
def test_an_amended_algorithm_leaves_the_old_figures_behind(archive: Archive, git: Git) -> None:
    branch(archive, git, "x")
    git("commit", "-qam", "a mechanism")
    archive.add_proposal(archive.stated_proposal(archive.genealogy()["x"]))
    archive.add_evidence("x", make_metrics(), None)
    old = archive.genealogy()["x"].commit
    edit(archive, RECIPE, valid(archive, "# another\n"))
    git("commit", "-qa", "--amend", "--no-edit")
    assert archive.genealogy()["x"].metrics == {}
    assert archive.metrics_file("x") is None
    assert archive.proposal("x") is not None
    assert "0.752" in git("notes", "--ref=poise/metrics", "show", old), "nothing is lost"
    assert old in git("rev-list", "evidence/x").split()
    assert archive.conformity() == ()
    archive.add_evidence("x", make_metrics(0.1), None)
    assert archive.conformity() == ()


@pytest.mark.usefixtures("on_path")
def test_evidence_follows_a_rebase_onto_an_amended_parent(archive: Archive, git: Git) -> None:
    branch(archive, git, "a")
    git("commit", "-qam", "a mechanism")
    branch(archive, git, "b", off="a")
    git("commit", "-qam", "another one")
    for name in ("a", "b"):
        archive.add_proposal(archive.stated_proposal(archive.genealogy()[name]))
        archive.add_evidence(name, make_metrics(), None)
    git("switch", "-q", "poise/a")
    git("commit", "-q", "--amend", "-m", "a mechanism in other words")
    (finding,) = archive.conformity()
    assert "stands on an earlier commit of poise/a" in finding.what
    git(*finding.advice.split()[1:])
    assert archive.conformity() == ()
    assert archive.genealogy()["b"].metrics
    assert [candidate.name for candidate in archive.genealogy().path("b")] == ["grpo", "a", "b"]


def test_a_rewrite_without_hooks_is_repaired(archive: Archive, git: Git) -> None:
    """poise-git was not on PATH, so git has copied the notes but the evidence has not moved."""
    branch(archive, git, "x")
    git("commit", "-qam", "a mechanism")
    archive.add_proposal(archive.stated_proposal(archive.genealogy()["x"]))
    archive.add_evidence("x", make_metrics(), None)
    edit(archive, RECIPE, valid(archive, "# another\n"))
    git("commit", "-qa", "--amend", "--no-edit")
    assert archive.genealogy()["x"].metrics, "git copies notes, whatever the code"
    (finding,) = archive.conformity()
    assert finding.repairable
    assert archive.runs("x") == ()
    archive.repair(hook_files())
    assert archive.conformity() == ()
    assert archive.genealogy()["x"].metrics == {}


@pytest.mark.usefixtures("on_path")
def test_a_push_with_evidence_for_other_code_is_refused(archive: Archive, git: Git, tmp_path: Path) -> None:
    run_git(tmp_path, "init", "-q", "--bare", "remote")
    git("remote", "add", "origin", str(tmp_path / "remote"))
    branch(archive, git, "x")
    git("commit", "-qam", "a mechanism")
    archive.add_proposal(archive.stated_proposal(archive.genealogy()["x"]))
    archive.add_evidence("x", make_metrics(), None)
    git("push", "-q", "origin", "poise/x", "evidence/x", "main")
    edit(archive, RECIPE, valid(archive, "# another\n"))
    git("commit", "-q", "--no-verify", "-a", "-m", "sneaked in")
    with pytest.raises(AssertionError, match=r"evidence/x: it belongs to \w+, but poise/x is at"):
        git("push", "-q", "-f", "origin", "poise/x")
    git("push", "-q", "origin", "main")
    git("reset", "-q", "--hard", "HEAD^")
    git("push", "-q", "origin", "poise/x", "evidence/x")
    git("switch", "-q", "evidence/x")
    text = (archive.root / "evidence/x/metrics.yaml").read_text()
    edit(archive, "evidence/x/metrics.yaml", text.replace(algorithm_of(archive, "x"), algorithm_of(archive, "grpo")))
    git("commit", "-qam", "borrowed figures")
    with pytest.raises(AssertionError, match=sentences.OTHER_CODE):
        git("push", "-q", "origin", "evidence/x")
    git("push", "-q", "origin", ":poise/x")


LOCAL = '#!/bin/sh\necho "mine: $(basename "$0") $*" >>"$(git rev-parse --git-dir)/heard"\nexit ${REFUSE:-0}\n'


def test_an_existing_hook_is_kept_and_called_first(archive: Archive, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = archive.root / ".git" / "hooks"
    names = ("pre-commit", "commit-msg", "post-commit", "prepare-commit-msg")
    for name in names:
        (folder / name).write_text(LOCAL)
    install_hooks(archive.repository, hook_files())
    assert all((folder / f"{name}.local").read_text() == LOCAL for name in names)
    assert archive.local_hooks() == tuple(sorted(names))
    assert archive.examine(hook_files()) == ()
    branch(archive, git, "x")
    monkeypatch.setenv("REFUSE", "3")
    assert commit(archive, "-qam", "a mechanism").returncode == 1
    monkeypatch.setenv("REFUSE", "0")
    git("commit", "-qam", "a mechanism")
    heard = (archive.root / ".git" / "heard").read_text().splitlines()
    refused, committed = ["pre-commit"], ["pre-commit", "prepare-commit-msg", "commit-msg", "post-commit"]
    assert [line.split()[1] for line in heard] == [*refused, *committed]
    assert archive.genealogy()["x"].parents == ("grpo",)


def test_an_existing_hook_gets_the_same_arguments_and_input(archive: Archive, git: Git, tmp_path: Path) -> None:
    run_git(tmp_path, "init", "-q", "--bare", "remote")
    git("remote", "add", "origin", str(tmp_path / "remote"))
    folder = archive.root / ".git" / "hooks"
    for name in ("pre-push", "post-rewrite", "reference-transaction"):
        (folder / name).write_text(
            f'#!/usr/bin/env python3\nimport sys\nopen(".git/{name}", "a").write(sys.stdin.read())\n'
        )
        (folder / name).chmod(0o755)
    install_hooks(archive.repository, hook_files())
    edit(archive, "README.md", "changed\n")
    git("commit", "-qam", "docs")
    git("commit", "-q", "--amend", "-m", "better docs")
    git("push", "-q", "origin", "main")
    git("notes", "--ref=poise/metrics", "add", "-m", "a", "HEAD")
    new = git("rev-parse", "HEAD").strip()
    assert new in (archive.root / ".git" / "pre-push").read_text()
    assert new in (archive.root / ".git" / "post-rewrite").read_text()
    assert "refs/notes/poise/metrics" in (archive.root / ".git" / "reference-transaction").read_text()
    with pytest.raises(AssertionError, match="would remove notes"):
        git("notes", "--ref=poise/metrics", "remove", "HEAD")


def test_an_older_shipped_hook_is_replaced(archive: Archive) -> None:
    folder = archive.root / ".git" / "hooks"
    (folder / "commit-msg").write_text(f"#!/bin/sh\n{HOOK_MARK} an older one\n")
    install_hooks(archive.repository, hook_files())
    assert (folder / "commit-msg").read_text() == hook_files()["commit-msg"]
    assert archive.local_hooks() == ()


def test_hooks_are_installed_in_a_hooks_path_inside_the_repository(archive: Archive, git: Git) -> None:
    """husky 9: core.hooksPath is .husky/_, whose hooks look by their own name for the person's in .husky."""
    folder = archive.root / ".husky" / "_"
    folder.mkdir(parents=True)
    (folder / ".gitignore").write_text("*")
    (folder / "h").write_text(
        '#!/usr/bin/env sh\nn=$(basename "$0")\ns=$(dirname "$(dirname "$0")")/$n\n[ ! -f "$s" ] && exit 0\n'
        'sh -e "$s" "$@"\n'
    )
    (folder / "pre-commit").write_text('#!/usr/bin/env sh\n. "$(dirname "$0")/h"')
    (folder / "pre-commit").chmod(0o755)
    (archive.root / ".husky" / "pre-commit").write_text("echo husky >>.git/heard\n")
    git("config", "core.hooksPath", ".husky/_")
    assert any(finding.where == "hooks/pre-commit" for finding in archive.examine(hook_files()))
    archive.repair(hook_files())
    assert archive.examine(hook_files()) == ()
    branch(archive, git, "x")
    edit(archive, "README.md", "changed\n")
    with pytest.raises(AssertionError, match="nothing else"):
        git("commit", "-qam", "both")
    assert (archive.root / ".git" / "heard").read_text() == "husky\n"
    # husky installs itself again and replaces the shipped hooks.
    (folder / "pre-commit").write_bytes((folder / "pre-commit.local").read_bytes())
    hooks = [finding.where for finding in archive.examine(hook_files()) if finding.where.startswith("hooks/")]
    assert hooks == ["hooks/pre-commit"]
    archive.repair(hook_files())
    assert not any(finding.where.startswith("hooks/") for finding in archive.examine(hook_files()))


def test_a_hooks_path_outside_the_repository_is_not_written(archive: Archive, git: Git, tmp_path: Path) -> None:
    (tmp_path / "everywhere").mkdir()
    git("config", "core.hooksPath", str(tmp_path / "everywhere"))
    archive.repair(hook_files())
    assert list((tmp_path / "everywhere").iterdir()) == []
    (finding,) = archive.examine(hook_files())
    assert sentences.HOOKS_OUTSIDE in finding.what
    git(*finding.advice.partition("git ")[2].partition(" && ")[0].split())
    archive.repair(hook_files())
    assert archive.examine(hook_files()) == ()


def test_a_plain_clone_is_complete_after_one_command(archive: Archive, tmp_path: Path) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    archive.add_evidence("x", make_metrics(), None)
    run_git(tmp_path, "clone", "-q", str(archive.root), "clone")
    clone = Archive.complete(tmp_path / "clone")
    clone.repair(hook_files())
    assert clone.examine(hook_files()) == ()
    assert clone.genealogy()["x"].metrics == archive.genealogy()["x"].metrics
    run_git(clone.root, "switch", "-q", "-c", "poise/y", "poise/x")
    edit(clone, RECIPE, "# y\n")
    run_git(clone.root, "commit", "-qam", "a mechanism")
    assert clone.genealogy()["y"].parents == ("x",)


def test_hooks_work_in_a_linked_work_tree(archive: Archive, git: Git, tmp_path: Path) -> None:
    git("worktree", "add", "-q", "-b", "poise/x", str(tmp_path / "linked"), "poise/grpo")
    (tmp_path / "linked" / RECIPE).write_text("# x\n")
    run_git(tmp_path / "linked", "commit", "-qam", "a mechanism")
    assert archive.genealogy()["x"].parents == ("grpo",)


def test_a_hook_that_refuses_everything_does_not_stop_the_writer(archive: Archive) -> None:
    hook = archive.root / ".git" / "hooks" / "reference-transaction"
    hook.write_text("#!/bin/sh\nexit 1\n")
    archive.add_candidate(make_proposal("x"), "# x\n")
    assert "x" in archive.genealogy()


# Names and texts that make a careless shell or sed run something.


HOSTILE = (
    "e;#",
    "e;w${IFS}out;#",
    "$(touch${IFS}PWN)",
    "`touch${IFS}PWN`",
    "x/&/e",
    "A",
    "a--b",
    "-a",
    "'",
    '"',
    "é",
    "x;touch${IFS}PWN",
)


@pytest.mark.usefixtures("on_path")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_branch_with_an_invalid_candidate_name_is_ignored(
    archive: Archive, git: Git, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive.root / "candidate-message.txt").write_text("touch PWN; : NAME\nalgorithm(NAME): NAME\n")
    git("add", ".")
    git("commit", "-qm", "a template that is a command")
    git("update-ref", f"refs/heads/poise/{name}", "main")
    git("symbolic-ref", "HEAD", f"refs/heads/poise/{name}")
    edit(archive, RECIPE, valid(archive, "# x\n"))
    monkeypatch.setenv("GIT_EDITOR", "cp .git/COMMIT_EDITMSG seen; echo subject >")
    done = commit(archive, "-a")
    assert done.returncode == 0, done.stderr
    assert "touch PWN" not in (archive.root / "seen").read_text()
    assert "Poise-Candidate" not in git("log", "-1", "--format=%B")
    assert done.stderr.find("next:") == -1
    assert not list(archive.root.rglob("PWN"))
    assert not (archive.root / "out").exists()


@pytest.mark.usefixtures("on_path")
def test_the_message_template_is_not_executed(archive: Archive, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    (archive.root / "candidate-message.txt").write_text("algorithm(NAME): NAME \\1 & $(touch PWN)\n\n`touch PWN` %s\n")
    git("add", ".")
    git("commit", "-qm", "a template")
    git("switch", "-q", "-c", "poise/x", "poise/grpo")
    edit(archive, RECIPE, valid(archive, "# x\n"))
    monkeypatch.setenv("GIT_EDITOR", "cp .git/COMMIT_EDITMSG seen; echo 'algorithm(x): a mechanism' >")
    git("commit", "-qa")
    assert (archive.root / "seen").read_text().startswith("algorithm(x): x \\1 & $(touch PWN)\n\n`touch PWN` %s\n")
    assert not (archive.root / "PWN").exists()


def test_a_parent_with_an_invalid_name_is_not_named(archive: Archive, git: Git) -> None:
    git("switch", "-q", "-c", "poise/a", "poise/grpo")
    edit(archive, RECIPE, "# a\n")
    git("-c", "core.hooksPath=/dev/null", "commit", "-qam", "a\n\nPoise-Candidate: * $(touch PWN)")
    git("switch", "-q", "-c", "poise/b")
    edit(archive, RECIPE, "# b\n")
    git("commit", "-qam", "try the median")
    assert parse_candidate(git("log", "-1", "--format=%B")).parents == ("grpo",)
    assert not (archive.root / "PWN").exists()


@pytest.mark.parametrize("path", ["$(touch PWN)", "it's", "-x", "a b;c", "x\\n\\c"])
def test_a_command_that_a_hook_prints_is_quoted_for_a_shell(archive: Archive, git: Git, path: str) -> None:
    git("switch", "-q", "-c", "poise/x", "poise/grpo")
    edit(archive, path, "")
    git("add", "--", ".")
    done = commit(archive, "-qm", "x")
    assert done.returncode == 1
    told = done.stderr.rpartition("To remove it from the commit: ")[2].strip()
    subprocess.run(["sh", "-c", told], cwd=archive.root, check=True)
    assert git("diff", "--cached", "--name-only") == ""
    assert not (archive.root / "PWN").exists()


def test_a_branch_with_a_no_break_space_in_its_name_can_be_pushed(archive: Archive, git: Git, tmp_path: Path) -> None:
    git("init", "-q", "--bare", str(tmp_path / "hub"))
    git("branch", "a\u00a0b\u3000c", "main")
    git("push", "-q", str(tmp_path / "hub"), "a\u00a0b\u3000c", "main")


def test_the_advice_for_an_amended_commit_removes_a_file_that_it_holds_already(archive: Archive, git: Git) -> None:
    git("switch", "-q", "-c", "poise/x", "poise/grpo")
    edit(archive, "recipe/algorithm.py", "# x\n")
    edit(archive, "notes.txt", "mine\n")
    git("add", "-A")
    git("commit", "-qm", "algorithm(x): y\n\nPoise-Candidate: x", "--no-verify")
    done = commit(archive, "--amend", "--no-edit", "-q")
    assert done.returncode == 1
    command = done.stderr.rpartition("To remove it from the commit: ")[2].strip()
    subprocess.run(["sh", "-c", command], cwd=archive.root, check=True)
    assert git("diff", "--cached", "--name-only", "HEAD~1").split() == ["recipe/algorithm.py"]
