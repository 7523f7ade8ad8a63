"""Archives of strangers: their owner, and the programs that they make git run."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.archive.configure import install_hooks
from poise_git.archive.git import Repository
from poise_git.archive.initialize import initialize
from poise_git.archive.lock import Lock, hold
from poise_git.errors import ArchiveError, ForeignArchive, NotAnArchive
from poise_git.package_data import hook_files

from .conftest import TEMPLATE, Git, make_metrics, make_proposal, run_git
from .hostile import arm, marks_in, signed

STRANGER = 12345


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Give a folder to another user: by chown if the tests may, else by the variable of git's own tests."""

    def give(folder: Path) -> None:
        if os.geteuid() != 0:
            monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
            return
        for place, folders, files in os.walk(folder):
            for name in (".", *folders, *files):
                os.lchown(Path(place, name), STRANGER, STRANGER)

    return give


def refused(path: Path) -> str:
    with pytest.raises(ForeignArchive) as error:
        Archive.open(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_archive_of_another_user_is_refused_from_any_of_its_folders(
    archive: Archive, give_away: Callable[[Path], None]
) -> None:
    root = archive.root
    give_away(root)
    command = f"git config --global --add safe.directory {root}"
    for path in (root, root / "recipe", root / ".git", root / "not" / "there"):
        assert command in refused(path)


def test_bare_repositories_worktrees_and_git_files_of_another_user_are_refused(
    archive: Archive, git: Git, tmp_path: Path, give_away: Callable[[Path], None]
) -> None:
    bare, tree, split = tmp_path / "bare.git", tmp_path / "tree", tmp_path / "split"
    git("clone", "-q", "--bare", ".", str(bare))
    git("worktree", "add", "-q", str(tree), "poise/grpo")
    git("clone", "-q", "--separate-git-dir", str(tmp_path / "elsewhere"), ".", str(split))
    for place in (bare, tree, split):
        assert Repository.discover(place).work_tree == (None if place == bare else place)
    give_away(bare)
    assert str(bare) in refused(bare / "refs")
    # Only the targets of the links belong to the stranger.
    give_away(tmp_path / "elsewhere")
    assert str(split) in refused(split)
    give_away(archive.root)
    assert str(tree) in refused(tree)


def test_an_enclosing_repository_of_another_user_is_refused(
    archive: Archive, give_away: Callable[[Path], None]
) -> None:
    mine = archive.root / "mine"
    mine.mkdir()
    give_away(archive.root)
    if os.geteuid() == 0:
        os.chown(mine, 0, 0)
    assert str(archive.root) in refused(mine)


def test_the_command_in_a_refusal_is_quoted_and_works(
    archive: Archive, give_away: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a $(touch PWN) 'search'"
    shutil.move(archive.root, place)
    give_away(place)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    command = refused(place).rpartition("owner: ")[2]
    assert shlex.split(command)[-1] == str(place)
    subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path)
    assert Archive.open(place).root == place
    assert not (tmp_path / "PWN").exists()


def test_variables_of_the_caller_neither_allow_nor_redirect(
    archive: Archive, git: Git, give_away: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("clone", "-q", "--bare", ".", str(tmp_path / "other.git"))
    for name, value in {
        "GIT_DIR": tmp_path / "other.git", "GIT_WORK_TREE": tmp_path, "GIT_INDEX_FILE": "x", "GIT_COMMON_DIR": tmp_path,
        "GIT_NAMESPACE": "n", "GIT_OBJECT_DIRECTORY": tmp_path, "GIT_CONFIG": "/dev/null", "GIT_PREFIX": "recipe/",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    assert Archive.open(archive.root / "recipe").root == archive.root
    give_away(archive.root)
    monkeypatch.setenv("GIT_DIR", str(archive.root / ".git"))
    refused(archive.root)


def test_the_ceiling_of_the_caller_counts(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(archive.root))
    with pytest.raises(NotAnArchive):
        Archive.open(archive.root / "recipe")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has been somebody else before")
def test_root_may_open_an_archive_of_the_user_who_ran_sudo(
    archive: Archive, give_away: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    give_away(archive.root)
    monkeypatch.setenv("SUDO_UID", str(STRANGER))
    assert Archive.open(archive.root).root == archive.root
    monkeypatch.setenv("SUDO_UID", str(STRANGER + 1))
    refused(archive.root)


def test_bare_repositories_need_the_permission_of_the_user(
    archive: Archive, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare.git"
    git("clone", "-q", "--bare", ".", str(bare))
    (tmp_path / "gitconfig").write_text("[safe]\n\tbareRepository = explicit\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    with pytest.raises(ArchiveError, match=r"safe\.bareRepository.*git clone"):
        Archive.open(bare)
    assert Archive.open(archive.root).root == archive.root


def test_the_work_tree_is_beside_the_repository_whatever_its_configuration(
    archive: Archive, git: Git, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    git("config", "core.worktree", str(tmp_path / "home"))
    assert Archive.open(archive.root).root == archive.root


# Programs that a repository names do not run.


@pytest.fixture
def armed(archive: Archive, tmp_path: Path) -> Path:
    """Arm an archive with a signed candidate, a submodule and evidence. Returns the folder of its marks."""
    archive.add_candidate(make_proposal("x"), "# x\n")
    archive.add_candidate(make_proposal("y"), "# y\n")
    archive.add_evidence("x", make_metrics(), None)
    signed(archive.root, "poise/y")
    run_git(archive.root, "switch", "-q", "-c", "poise/wide", "poise/grpo")
    run_git(archive.root, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},recipe/sub")
    run_git(archive.root, "commit", "-qm", "a submodule", "--no-verify")
    run_git(archive.root, "switch", "-q", "main")
    arm(archive.root, tmp_path / "marks")
    return tmp_path / "marks"


def test_plain_git_runs_configured_commands(archive: Archive, armed: Path) -> None:
    for arguments in (
        ("status",), ("diff", "poise/grpo", "poise/y"), ("log", "-1", "-p", "poise/y"), ("fetch", "origin"),
        ("checkout", "poise/x"), ("checkout", "-f", "main"), ("gc", "--auto"),
    ):  # fmt: skip
        subprocess.run(["git", "-C", archive.root, *arguments], capture_output=True, stdin=subprocess.DEVNULL)
    ran = marks_in(armed)
    assert {"core.fsmonitor", "diff.evil.command", "filter.evil.process", "gpg.openpgp.program", "ext"} <= ran
    assert any(name.startswith("hook.") for name in ran)


def test_reading_runs_no_configured_command(archive: Archive, armed: Path) -> None:
    found = Archive.open(archive.root)
    genealogy = found.genealogy()
    assert {"x", "y", "grpo"} <= set(genealogy.by_name)
    assert "+# y" in found.diff(genealogy["grpo"].commit, genealogy["y"].commit)
    assert "recipe/sub" in found.diff("poise/grpo", "poise/wide")
    assert found.staged_text("recipe/algorithm.py") == found.read_text("main", "recipe/algorithm.py")
    assert found.resolve("poise/y").name == "y"
    assert any("recipe/sub" in finding.what for finding in found.conformity())
    found.examine(hook_files())
    found.metrics_file("x")
    found.merge("a\n", "b\n", "a\n")
    assert marks_in(armed) == set()


def test_writing_runs_no_configured_command(archive: Archive, armed: Path) -> None:
    found = Archive.open(archive.root)
    found.add_candidate(make_proposal("z"), "# z\n")
    found.add_evidence("z", make_metrics(), None)
    found.write_round(1, {"parents": ["x"]})
    found.write_directive({"directive": "short"}, "poise.yaml", lambda text: text + "directive: short\n")
    assert (archive.root / "poise.yaml").read_text().endswith("directive: short\n")
    found.follow({found.genealogy()["x"].commit: found.genealogy()["z"].commit})
    found.repair(hook_files())
    found.maintain()
    assert marks_in(armed) == set()


def test_init_runs_no_existing_filters_hooks_or_templates(tmp_path: Path) -> None:
    place, marks = tmp_path / "new", tmp_path / "marks"
    place.mkdir()
    run_git(place, "init", "-q")
    arm(place, marks)
    template = tmp_path / "template"
    (template / "hooks").mkdir(parents=True)
    (template / "planted").write_text("")
    run_git(place, "-c", "core.fsmonitor=false", "config", "init.templateDir", str(template))
    initialize(place, TEMPLATE, hook_files())
    assert marks_in(marks) == set()
    assert {path: (place / path).read_text() for path in TEMPLATE} == TEMPLATE
    assert not (place / ".git" / "planted").exists()
    assert Archive.open(place).resolve("grpo").name == "grpo"


def test_a_new_archive_is_clean_to_plain_git(archive: Archive, git: Git) -> None:
    assert git("status", "--porcelain") == ""
    assert git("diff", "HEAD") == ""


def test_a_clone_is_completed_with_only_the_address_of_the_remote(archive: Archive, tmp_path: Path) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    archive.add_evidence("x", make_metrics(), None)
    clone, marks = tmp_path / "clone", tmp_path / "marks"
    run_git(tmp_path, "clone", "-q", str(archive.root), str(clone))
    arm(clone, marks)
    subprocess.run(["git", "-C", clone, "config", "remote.origin.url", "../archive"], check=True)
    marks_in(marks)
    found = Archive.complete(clone)
    assert found.genealogy()["x"].metrics
    assert marks_in(marks) == set()
    assert found.repository.refs() | archive.repository.refs() == found.repository.refs()


def test_an_address_that_runs_a_command_is_refused(archive: Archive, tmp_path: Path) -> None:
    clone, marks = tmp_path / "clone", tmp_path / "marks"
    run_git(tmp_path, "clone", "-q", str(archive.root), str(clone))
    arm(clone, marks)
    for address in (f"ext::touch {marks}/ext", f"-u touch {marks}/option", f"--upload-pack=touch {marks}/option"):
        subprocess.run(["git", "-C", clone, "config", "remote.origin.url", address], check=True)
        marks_in(marks)
        with pytest.raises(ArchiveError, match="git fetch"):
            Archive.complete(clone)
        assert marks_in(marks) == set()


def test_a_missing_object_is_not_fetched(archive: Archive, tmp_path: Path) -> None:
    run_git(archive.root, "config", "uploadpack.allowFilter", "true")
    clone, mark = tmp_path / "partial", tmp_path / "MARK"
    run_git(tmp_path, "clone", "-q", "--bare", "--filter=blob:none", f"file://{archive.root}", str(clone))
    run_git(clone, "config", "remote.origin.uploadpack", f"touch {mark}; git-upload-pack")
    with pytest.raises(ArchiveError):
        Archive.open(clone).read_text("main", "poise.yaml")
    assert not mark.exists()
    run_git(clone, "cat-file", "-p", "main:poise.yaml")
    assert mark.exists()


def test_an_object_must_match_its_name(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    git("replace", "poise/x:recipe/algorithm.py", "main:README.md")
    assert archive.read_text("poise/x", "recipe/algorithm.py") == "# x\n"
    assert Archive.open(archive.root).read_text("poise/x", "recipe/algorithm.py") == "# x\n"


# Nothing is written through a link.


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    file = tmp_path / "victim"
    file.write_text("mine\n")
    return file


def test_a_lock_file_that_is_a_link_is_refused(archive: Archive, victim: Path) -> None:
    link = archive.root / ".git" / Lock.WRITE.file
    link.unlink(missing_ok=True)
    link.symlink_to(victim)
    with pytest.raises(ArchiveError, match="symbolic link"), hold(archive.root / ".git", Lock.WRITE):
        pass
    assert victim.read_text() == "mine\n"


def test_hooks_and_files_replace_links(archive: Archive, victim: Path, tmp_path: Path) -> None:
    hooks = archive.root / ".git" / "hooks"
    (hooks / "pre-push").unlink()
    (hooks / "pre-push").symlink_to(tmp_path / "not-there")
    (hooks / "post-commit").write_text("# poise-git hook: an older one\n")
    target = tmp_path / "older"
    shutil.move(hooks / "post-commit", target)
    (hooks / "post-commit").symlink_to(target)
    install_hooks(archive.repository, hook_files())
    assert not (tmp_path / "not-there").exists()
    assert target.read_text() == "# poise-git hook: an older one\n"
    settings = archive.root / "poise.yaml"
    settings.unlink()
    settings.symlink_to(victim)
    kept = archive.write_directive({"directive": "d"}, "poise.yaml", lambda text: text + "seed: 1\n")
    assert kept == ("poise.yaml",)
    assert victim.read_text() == "mine\n"
    assert settings.is_symlink()


def test_a_folder_that_is_a_link_is_refused(archive: Archive, tmp_path: Path) -> None:
    shutil.rmtree(archive.root / "recipe")
    (tmp_path / "elsewhere").mkdir()
    (archive.root / "recipe").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArchiveError, match="symbolic link"):
        archive.repository.check_out("refs/heads/main", ["recipe/algorithm.py"])
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("place", ["logs/refs/heads/poise/x", "logs", "refs/heads/evidence", "packed-refs", "config"])
def test_git_writes_through_no_link(archive: Archive, victim: Path, place: str, tmp_path: Path) -> None:
    link = archive.root / ".git" / place
    inside = victim.parent / "outside"
    if link.is_dir():
        shutil.move(link, inside)
        link.symlink_to(inside)
    else:
        if link.exists():
            victim.write_text(link.read_text())
            link.unlink()
        elif place == "packed-refs":
            victim.write_text("")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(victim)
    before = victim.read_text()
    run_git(archive.root, "config", "user.name", "$(touch PWN)") if place != "config" else None
    for write in (
        lambda: archive.add_candidate(make_proposal("x"), "# x\n"),
        lambda: archive.repair(hook_files()),
        archive.maintain,
    ):
        with pytest.raises(ArchiveError, match="symbolic link"):
            write()
    assert victim.read_text() == before


def test_links_within_the_archive_are_allowed(archive: Archive) -> None:
    head = archive.root / ".git" / "HEAD"
    head.unlink()
    head.symlink_to("refs/heads/main")
    archive.add_candidate(make_proposal("x"), "# x\n")


# Names and messages that look like the output of git.

SEPARATORS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


def commit_on(git: Git, parent: str, message: str) -> str:
    return git("commit-tree", f"{parent}^{{tree}}", "-p", parent, stdin=message).strip()


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029"])
def test_a_branch_whose_name_has_a_line_separator_is_no_other_branch(
    archive: Archive, git: Git, separator: str
) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    own = git("rev-parse", "poise/x").strip()
    for name in (f"x{separator}z", f"x{separator}b{separator}c"):
        git("update-ref", f"refs/heads/poise/{name}", "refs/heads/main")
    assert archive.genealogy()["x"].commit == own
    assert {finding.what for finding in archive.examine({}) if "Bad" not in finding.where} == {
        "its name is not a valid candidate name (kebab-case)"
    }


@pytest.mark.parametrize("separator", [*SEPARATORS, "\n "])
def test_a_trailer_forges_no_ref(archive: Archive, git: Git, separator: str) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    own = git("rev-parse", "poise/x").strip()
    evil = commit_on(git, "poise/grpo", "algorithm(x): another\n\nPoise-Candidate: x\nPoise-Parent: grpo\n")
    forged = f"Poise-Protocol: a{separator}{evil} refs/heads/poise/x b\n"
    made = commit_on(git, "poise/grpo", f"algorithm(zz): y\n\nwhy\n\nPoise-Candidate: zz\n{forged}")
    git("update-ref", "refs/heads/poise/zz", made)
    genealogy = archive.genealogy()
    assert genealogy["x"].commit == own
    assert "zz" in genealogy


def test_a_path_in_a_notes_tree_may_be_anything(archive: Archive, git: Git) -> None:
    git("config", "core.quotePath", "false")
    archive.add_evidence("grpo", make_metrics(), None)
    blob = git("hash-object", "-w", "--stdin", stdin="x\n").strip()
    tree = git("mktree", stdin=f"100644 blob {blob}\taa\u2028\tbb\n").strip()
    made = git("commit-tree", tree, "-p", "refs/notes/poise/metrics", "-m", "notes").strip()
    git("-c", "core.hooksPath=/dev/null", "update-ref", "refs/notes/poise/metrics", made)
    assert any("not a candidate's commit" in finding.what for finding in archive.examine({}))


def test_a_symbolic_ref_is_named_and_nothing_is_written_through_it(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    git("branch", "mine", "main")
    git("update-ref", "-d", "refs/heads/evidence/x")
    git("symbolic-ref", "refs/heads/evidence/x", "refs/heads/mine")
    found = {finding.where: finding for finding in archive.examine({}) if "symbolic ref" in finding.what}
    assert "refs/heads/mine" in found["refs/heads/evidence/x"].what
    before = git("rev-parse", "mine")
    archive.add_evidence("x", make_metrics(), None)
    assert git("rev-parse", "mine") == before
    assert git("rev-parse", "evidence/x") != before


def test_an_object_whose_content_is_another_is_refused(archive: Archive, git: Git) -> None:
    archive.add_candidate(make_proposal("x"), "# x\n")
    blob = git("rev-parse", "poise/x:recipe/algorithm.py").strip()
    objects = archive.root / ".git" / "objects"
    for pack in [*(objects / "pack").glob("*.pack")]:
        aside = archive.root / pack.name
        pack.rename(aside)
        for rest in (objects / "pack").glob(f"{pack.stem}.*"):
            rest.unlink()
        subprocess.run(["git", "-C", archive.root, "unpack-objects", "-q"], stdin=aside.open("rb"), check=True)
    loose = objects / blob[:2] / blob[2:]
    loose.chmod(0o644)
    loose.write_bytes(zlib.compress(b"blob 7\0# evil\n"))
    with pytest.raises(ArchiveError, match="is not what its name says"):
        Archive.open(archive.root).recipe("x")


@pytest.mark.parametrize("place", ["config", "packed-refs", "hooks/pre-push", "info/grafts"])
def test_a_link_to_a_fifo_is_refused_where_git_would_wait_for_it(archive: Archive, tmp_path: Path, place: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    file = archive.root / ".git" / place
    file.unlink(missing_ok=True)
    file.symlink_to(tmp_path / "pipe")
    with pytest.raises(ArchiveError, match="neither a file nor a folder"):
        Archive.open(archive.root)
