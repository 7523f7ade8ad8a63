"""Commands that are printed for a person to copy."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.errors import ArchiveError, NotAnArchive
from poise_git.package_data import hook_files
from tests import sentences

from .conftest import Git, run_git

HOSTILE = ("$(touch${IFS}PWN)", "`touch${IFS}PWN`", "x;touch${IFS}PWN", "a|b&c", "it's", '"', "x>PWN", "!!")


@pytest.mark.parametrize("name", HOSTILE)
def test_advice_about_names_is_quoted_for_a_shell(archive: Archive, git: Git, name: str, tmp_path: Path) -> None:
    git("update-ref", f"refs/heads/poise/{name}", "poise/grpo")
    git("update-ref", f"refs/heads/evidence/{name}", "evidence/grpo")
    found = [*archive.conformity(), *archive.examine(hook_files())]
    told = [finding.advice for finding in found if name in finding.where]
    assert len(told) == 4
    for advice in told:
        assert subprocess.run(["sh", "-n"], input=advice, text=True, capture_output=True).returncode == 0
        assert shlex.split(advice)[:3] == ["git", "branch", "-m"]
        assert shlex.split(advice)[3] in (f"poise/{name}", f"evidence/{name}")
        subprocess.run(["sh", "-c", advice], cwd=tmp_path, capture_output=True)
        assert list(tmp_path.glob("PWN")) == []


@pytest.mark.parametrize("file", [*(name.replace("${IFS}", " ") for name in HOSTILE), "-x", "--pathspec-from-file=x"])
def test_advice_about_files_is_quoted_for_a_shell(archive: Archive, git: Git, file: str) -> None:
    git("switch", "-q", "-c", "poise/wide", "poise/grpo")
    (archive.root / file).write_text("")
    git("add", "--", ".")
    git("commit", "-qm", "wide", "--no-verify")
    (advice,) = [finding.advice for finding in archive.conformity() if "changes" in finding.what]
    subprocess.run(["sh", "-n"], input=advice, text=True, check=True)
    subprocess.run(
        ["sh", "-c", advice.partition(" && git commit")[0]], cwd=archive.root, check=True, capture_output=True
    )
    assert git("diff", "--cached", "--name-only", "HEAD~1") == ""
    assert not (archive.root / "PWN").exists()


def test_a_remote_named_like_an_option_is_ignored(archive: Archive, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run_git(tmp_path, "clone", "-q", str(archive.root), str(clone))
    remote = "--upload-pack=touch${IFS}PWN"
    config = clone / ".git" / "config"
    config.write_text(config.read_text().replace('"origin"', f'"{remote}"'))
    (clone / ".git" / "refs" / "remotes" / remote / "poise").mkdir(parents=True)
    (clone / ".git" / "refs" / "remotes" / remote / "poise" / "grpo").write_text(run_git(clone, "rev-parse", "HEAD"))
    run_git(clone, "update-ref", "-d", "refs/remotes/origin/poise/grpo")
    with pytest.raises(NotAnArchive) as error:
        Archive.open(clone)
    assert remote not in str(error.value)


def test_paths_are_quoted_for_a_shell(archive: Archive, tmp_path: Path) -> None:
    place = tmp_path / "$(touch PWN) 'x'"
    with pytest.raises(NotAnArchive) as missing:
        Archive.open(place)
    assert shlex.split(str(missing.value).rpartition(sentences.ARCHIVE_MISSING)[2])[-1] == str(place)
    archive.root.rename(place)
    with pytest.raises(ArchiveError) as there:
        Archive.create(place, {"recipe/algorithm.py": ""}, {})
    assert shlex.split(str(there.value).rpartition("go on with it: ")[2])[-1] == str(place)
