from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.errors import CheckFailed
from poise_git.package_data import hook_files, template_files
from poise_git.pipeline.recipe import KNOWN_ROLLOUTS, Algorithm, algorithm_of, rollouts_text
from tests import sentences

RECIPE = {path.removeprefix("recipe/"): text for path, text in template_files().items() if path.startswith("recipe/")}


def test_the_shipped_recipe_is_an_algorithm_and_a_known_version() -> None:
    assert algorithm_of(RECIPE) == Algorithm(RECIPE["algorithm.py"], "1")
    assert rollouts_text("1") == RECIPE["rollouts.py"]


def test_every_known_version_can_be_run() -> None:
    assert {algorithm_of({**RECIPE, "rollouts.py": rollouts_text(known)}).rollouts for known in KNOWN_ROLLOUTS.values()}


@pytest.mark.parametrize("version", ["", "2", "../1"])
def test_an_unknown_version_is_refused(version: str) -> None:
    with pytest.raises(CheckFailed, match=r"no rollouts\.py of version"):
        rollouts_text(version)


@pytest.mark.parametrize("change", ["\n", " ", "# coding: utf-7\n", "\ufeff"])
def test_one_changed_character_makes_rollouts_unknown(change: str) -> None:
    for text in (change + RECIPE["rollouts.py"], RECIPE["rollouts.py"] + change):
        with pytest.raises(CheckFailed, match=sentences.UNKNOWN_ROLLOUTS) as failure:
            algorithm_of({**RECIPE, "rollouts.py": text})
        assert failure.value.check == "files"


@pytest.mark.parametrize("name", ["algorithm.py", "rollouts.py"])
def test_a_missing_file_is_named(name: str) -> None:
    with pytest.raises(CheckFailed, match=f"there is no {name}"):
        algorithm_of({path: text for path, text in RECIPE.items() if path != name})


@pytest.mark.parametrize("name", ["algorithm.py", "rollouts.py"])
def test_a_link_in_git_is_not_read_as_a_file(tmp_path: Path, name: str) -> None:
    """This holds even if the target's name is the whole text of the file."""
    archive = Archive.create(tmp_path / "search", template_files(), hook_files())

    def git(*arguments: str, stdin: str = "") -> str:
        command = ["git", "-C", str(archive.root), "-c", "core.hooksPath=/dev/null", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout.strip()

    blob = git("hash-object", "-w", "--stdin", stdin=RECIPE[name])
    git("update-index", "--cacheinfo", f"120000,{blob},recipe/{name}")
    tree = git("write-tree")
    commit = git("-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", tree, "-p", "poise/grpo", "-m", "link")
    assert name not in archive.recipe(commit)
    with pytest.raises(CheckFailed, match=f"there is no {name}"):
        algorithm_of(archive.recipe(commit))
