"""Failures of the machine, and unusual content of a copied archive: one line, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.archive.entries import Proposal
from poise_git.errors import ArchiveError
from tests import sentences
from tests.conftest import git

pytestmark = pytest.mark.slow


def poise_git(
    *arguments: str | Path, variables: Mapping[str, str] | None = None, **options: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "poise_git", *map(str, arguments)],
        env={**os.environ, **(variables or {})},
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
        **{"stdout": subprocess.PIPE, **options},  # type: ignore[call-overload]
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("poise-git: ")
    for part in parts:
        assert part in line


def test_a_full_disk_is_an_error_of_one_line(tiny_archive: Archive) -> None:
    with open("/dev/full", "w") as full:
        done = poise_git("-C", tiny_archive.root, "log", stdout=full)
    assert_one_line(done, sentences.NO_SPACE)


def test_too_few_open_files_give_no_traceback(tiny_archive: Archive) -> None:
    command = f"ulimit -n 12; {sys.executable} -m poise_git -C {tiny_archive.root} check grpo"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("poise-git: ")


def test_a_missing_current_folder_is_an_error_of_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    command = f"mkdir {gone}; cd {gone}; rmdir {gone}; {sys.executable} -m poise_git log"
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(["sh", "-c", command], env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert_one_line(done, sentences.FOLDER_GONE, "cd DIR")


def test_a_path_that_is_not_utf8_gives_no_traceback(tiny_archive: Archive, tmp_path: Path) -> None:
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    tiny_archive.root.rename(place)
    for verb in ("log", "status", "select", "show grpo"):
        assert "Traceback" not in poise_git("-C", place, *verb.split()).stderr


def test_a_program_that_is_not_git_is_an_error_of_one_line(tiny_archive: Archive, tmp_path: Path) -> None:
    fake = tmp_path / "git"
    fake.write_text("#!/bin/sh\necho nothing\n")
    fake.chmod(0o755)
    done = poise_git("-C", tiny_archive.root, "log", variables={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert_one_line(done, "install git 2.36 or newer")


@pytest.mark.parametrize("place", ["config", "packed-refs", "refs/heads/poise/zz", "objects/info/alternates"])
def test_git_waits_for_no_fifo(tiny_archive: Archive, place: str) -> None:
    path = tiny_archive.root / ".git" / place
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    assert_one_line(poise_git("-C", tiny_archive.root, "status"), str(path), f"rm {path}")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "0", "-1", "1e999", "ten"])
@pytest.mark.parametrize("option", ["--budget-usd", "--budget-hours"])
def test_a_budget_without_a_finite_value_is_refused(tiny_archive: Archive, option: str, value: str) -> None:
    done = poise_git("evolve", tiny_archive.root, option, value)
    assert done.returncode == 2
    assert option in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_leaves_no_folder(tiny_archive: Archive, tmp_path: Path, which: signal.Signals) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "poise_git", "-C", str(tiny_archive.root), "check", "grpo"],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(which, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(temporary.glob("poise-*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(which)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("signature", ["a <a@b> -1 +0000", "a"])
def test_a_commit_without_a_date_gives_no_traceback(tiny_archive: Archive, signature: str) -> None:
    root = tiny_archive.root
    text = (
        f"tree {git(root, 'rev-parse', 'poise/grpo^{tree}').strip()}\n"
        f"parent {git(root, 'rev-parse', 'poise/grpo').strip()}\n"
        f"author {signature}\ncommitter {signature}\n\n"
        "algorithm(undated): x\n\nPoise-Candidate: undated\nPoise-Parent: grpo\n"
    )
    written = subprocess.run(
        ["git", "-C", str(root), "hash-object", "-t", "commit", "-w", "--literally", "--stdin"],
        input=text.encode(),
        capture_output=True,
        check=True,
    )
    git(root, "update-ref", "refs/heads/poise/undated", written.stdout.decode().strip())
    for verb in ("log", "show undated"):
        assert "Traceback" not in poise_git("-C", root, *verb.split()).stderr
    done = poise_git("-C", root, "doctor")
    assert done.returncode == 1
    assert "poise/undated" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_conflicting_branch_is_reported_with_the_command(tiny_archive: Archive) -> None:
    git(tiny_archive.root, "branch", "evidence/mine/sub", "poise/grpo")
    git(tiny_archive.root, "branch", "poise/mine", "poise/grpo")
    with pytest.raises(ArchiveError, match=r"evidence/mine/sub is in the way .*: git branch -m evidence/mine/sub"):
        tiny_archive.add_proposal(Proposal("mine", "grpo", "m", "h", "f", "human"))


def test_a_very_long_message_is_read_in_time(tiny_archive: Archive) -> None:
    root = tiny_archive.root
    made = subprocess.run(
        ["git", "-C", str(root), "commit-tree", "-p", "poise/grpo", "poise/grpo^{tree}"],
        input=b"algorithm(long): x\n\n" + b"Poise-Prior: y\n" * (4 << 20),
        capture_output=True,
        check=True,
    )
    git(root, "update-ref", "refs/heads/poise/long", made.stdout.decode().strip())
    began = time.monotonic()
    assert "long" in poise_git("-C", root, "log").stdout
    assert time.monotonic() - began < 60


def test_a_closed_output_and_any_encoding_give_no_traceback(tiny_archive: Archive) -> None:
    command = f"{sys.executable} -m poise_git -C {tiny_archive.root} log >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for encoding in ("latin-1", "ascii", "cp1252", "utf-16"):
        variables = {"PYTHONIOENCODING": encoding}
        done = poise_git("-C", tiny_archive.root, "context", "grpo", variables=variables, stdout=subprocess.DEVNULL)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_fifo_below_an_alternate_is_refused(tiny_archive: Archive, tmp_path: Path) -> None:
    """Two object folders that name each other, as clones with `--reference` may."""
    other, pack = tmp_path / "other", "pack-" + "a" * 40
    for folder in ("info", "pack"):
        (other / folder).mkdir(parents=True)
    objects = tiny_archive.root / ".git" / "objects"
    (objects / "info").mkdir(exist_ok=True)
    (objects / "info" / "alternates").write_text(f"# ours\n{os.path.relpath(other, objects)}\n")
    (other / "info" / "alternates").write_text(f"{objects}\n")
    assert poise_git("-C", tiny_archive.root, "log").returncode == 0
    (other / "pack" / f"{pack}.pack").touch()
    os.mkfifo(other / "pack" / f"{pack}.idx")
    assert_one_line(poise_git("-C", tiny_archive.root, "log"), f"{pack}.idx: neither a file nor a folder")


def test_evolve_in_a_clone_without_candidates_says_how_to_fetch_them(tiny_archive: Archive, tmp_path: Path) -> None:
    git(tiny_archive.root, "clone", "-q", str(tiny_archive.root), str(tmp_path / "clone"))
    assert_one_line(poise_git("evolve", tmp_path / "clone"), "a clone without its candidates", "doctor --repair")


def test_an_empty_name_of_a_protocol_is_refused(tiny_archive: Archive) -> None:
    done = poise_git("-C", tiny_archive.root, "show", "grpo", "--protocol", "")
    assert done.returncode == 2
    assert "no protocol ''" in done.stderr
