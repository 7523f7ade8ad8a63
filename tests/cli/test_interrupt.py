"""Ctrl-C: one line, exit code 130, no process left, and the same command resumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poise_git.archive import Archive
from tests.conftest import git

pytestmark = pytest.mark.slow


def test_an_interrupt_keeps_finished_work(tiny_archive: Archive) -> None:
    command = [sys.executable, "-m", "poise_git", "evolve", str(tiny_archive.root), "--candidates", "1", "--json"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background jobs ignore the signal, and their children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if line.startswith("{") and json.loads(line)["event"] == "RunEnded":
            break
    family = descendants(process.pid)
    assert family
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    errors = process.stderr.read()
    assert "interrupted" in errors
    assert "Traceback" not in errors
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in family) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
    git(tiny_archive.root, "fsck", "--strict")
    assert tiny_archive.runs("grpo"), "the finished run is kept"
    assert subprocess.run(command, capture_output=True).returncode == 0


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found |= {child} | descendants(child)
    return found
