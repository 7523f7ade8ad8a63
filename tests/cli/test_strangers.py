"""Every command on an archive whose settings, attributes and hooks all name programs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from poise_git.archive import Archive
from tests.archive.hostile import arm, marks_in, signed
from tests.conftest import git
from tests.in_process import poise_git


@pytest.mark.slow
def test_no_command_runs_programs_that_an_archive_configures(tiny_archive: Archive, tmp_path: Path) -> None:
    assert poise_git("-C", tiny_archive.root, "evolve", "--candidates", "1").returncode == 0
    name = next(candidate.name for candidate in tiny_archive.genealogy() if candidate.name != "grpo")
    git(tiny_archive.root, "branch", "-q", "poise/by-hand", f"poise/{name}")
    signed(tiny_archive.root, "poise/by-hand")
    marks = tmp_path / "marks"
    arm(tiny_archive.root, marks)
    marks_in(marks)
    for verb in (
        ("status",), ("log",), ("show", name), ("diff", name), ("context", name), ("best",), ("best", "--path"),
        ("select",), ("doctor",), ("check", "--all"), ("check", name), ("propose", name),
        ("directive", "short answers", "--commit"), ("gpu-check",), ("reflect", name), ("evaluate", name),
        ("evolve", "--candidates", "2"), ("cross", name, "grpo"), ("doctor", "--repair"),
    ):  # fmt: skip
        done = poise_git("-C", tiny_archive.root, *verb)
        assert "Traceback" not in done.stderr, (verb, done.stderr)
        assert marks_in(marks) == set(), verb


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("verb", ["status", "log", "doctor", "evolve", "gpu-check", "init"])
def test_every_command_refuses_an_archive_of_another_user(tiny_archive: Archive, verb: str) -> None:
    subprocess.run(["chown", "-R", "12345", tiny_archive.root], check=True)
    done = poise_git("-C", tiny_archive.root, verb)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"git config --global --add safe.directory {tiny_archive.root}" in done.stderr
    again = poise_git("evolve", tiny_archive.root)
    assert "safe.directory" in again.stderr
