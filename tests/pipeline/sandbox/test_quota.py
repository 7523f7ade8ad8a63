"""The resources of all processes of a run have limits, and the reason of a failure names the limit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from poise_git.pipeline.sandbox import Allowance, ChildFailed, Limits
from poise_git.pipeline.sandbox.cgroup import Group
from poise_git.pipeline.sandbox.channel import MEBIBYTE
from poise_git.pipeline.sandbox.quota import LimitReached, Quota
from poise_git.pipeline.sandbox.removal import remove_tree
from tests import sentences
from tests.pipeline.sandbox.conftest import ENTRIES, Children

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("entry", "arguments", "settings", "reason"),
    [
        (
            "allocate_together",
            {"processes": 5, "mb": 120},
            {"memory_mb": 400},
            sentences.MEMORY_LIMIT.format(megabytes=400),
        ),
        ("write_many_files", {"files": 40, "mb": 1, "stay": True}, {"disk_mb": 20}, "disk limit of 20 MB reached"),
        ("write_many_files", {"files": 40, "mb": 1}, {"disk_mb": 20}, "disk limit of 20 MB reached"),
        ("write_nameless_files", {"files": 40, "mb": 1}, {"disk_mb": 20}, "disk limit of 20 MB reached"),
        ("write_many_files", {"files": 300, "mb": 0}, {"files": 200}, "limit of 200 files reached"),
        ("write_nameless_files", {"files": 100, "mb": 0}, {"files": 80}, "limit of 80 files reached"),
        ("link_much", {"names": 300}, {"files": 200}, "limit of 200 files reached"),
        ("nest_folders", {"depth": 300}, {}, "limit of 64 nested folders reached"),
        ("nest_folders", {"depth": 3000}, {"files": 100}, "limit of 64 nested folders reached"),
        ("hide_files", {"mode": 0}, {}, sentences.HIDDEN_FILES),
        ("hide_files", {"mode": 0o400}, {}, sentences.HIDDEN_FILES),
        ("open_memory_file", {}, {}, "PermissionError: [Errno 1] Operation not permitted"),
        ("stop_itself", {}, {"wall_seconds": 1}, "wall time limit of 1 s reached"),
    ],
)
def test_a_limit_holds_for_all_processes_together(
    children: Children, entry: str, arguments: dict[str, Any], settings: dict[str, Any], reason: str
) -> None:
    child = children(**settings)
    began = time.monotonic()
    assert child.failure(entry, **arguments).reason == reason
    assert time.monotonic() - began < 15
    remove_tree(child.scratch)
    child.scratch.mkdir()
    assert child.run("echo").output == "printed by echo\n", "the sandbox continues"


def test_shared_memory_counts(children: Children) -> None:
    child = children()
    with pytest.raises(ChildFailed) as caught:
        child.sandbox.run(
            "entries_for_tests:fill_shared_memory",
            {"files": 100},
            child.scratch,
            allowance=Allowance(readable=(ENTRIES,), services=True),
            limits=Limits(memory_mb=80, wall_seconds=20),
        )
    assert caught.value.reason == sentences.MEMORY_LIMIT.format(megabytes=80)


def test_pages_that_processes_share_count_once(children: Children) -> None:
    assert children(memory_mb=300).run("share_pages", processes=5, mb=100).value == 100 * MEBIBYTE


def test_the_pause_grows_with_the_duration_of_a_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = Quota(Limits(memory_mb=1024, disk_mb=1024, files=1000, processes=64), (tmp_path,), ())
    quota.watch()
    pauses = quota.pauses()
    assert 0.5 <= next(pauses) <= 2.0

    def look() -> None:
        began = time.process_time()
        while time.process_time() - began < 0.012:
            pass

    monkeypatch.setattr(quota, "look", look)
    assert 1.2 <= next(pauses) <= 2.0


def test_an_unnamed_file_in_memory_counts(tmp_path: Path) -> None:
    """Run without the filter that would refuse it."""
    script = "import os, time; os.write(os.memfd_create('m'), bytes(50 << 20)); print(1, flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"1\n"
        quota = Quota(Limits(memory_mb=48), (tmp_path,), ())
        quota.watch()
        with pytest.raises(LimitReached, match="memory limit of 48 MB"):
            quota.look()
    finally:
        child.kill()
        child.communicate()


def test_processes_are_counted_even_without_a_namespace(tmp_path: Path) -> None:
    """In its own process: the test process has children of other tests."""
    script = """
import os, sys, time
from pathlib import Path
from poise_git.pipeline.sandbox import Limits
from poise_git.pipeline.sandbox.quota import LimitReached, Quota

reader, writer = os.pipe()
if os.fork() == 0:
    for _ in range(4):
        os.fork()
    os.write(writer, b".")
    time.sleep(60)
for _ in range(16):
    os.read(reader, 1)
Quota(Limits(processes=16), (Path(sys.argv[1]),), ()).look()
try:
    Quota(Limits(processes=15), (Path(sys.argv[1]),), ()).look()
except LimitReached as reached:
    print(reached)
os.killpg(0, 9)
"""
    asked = [sys.executable, "-uc", script, str(tmp_path)]
    ended = subprocess.run(asked, capture_output=True, text=True, start_new_session=True, timeout=50, check=False)
    assert (ended.stdout, ended.stderr) == ("limit of 15 processes reached\n", "")


def test_a_control_group_contains_its_processes_and_is_removed() -> None:
    """Without limits, because the controllers of a kernel may be elsewhere."""
    mounts = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    parents = [Path(left.split()[4]) for left, right in mounts if right.startswith("cgroup2 ")]
    if not parents or not os.access(parents[0], os.W_OK):
        pytest.skip("no cgroup v2 that this user may divide")
    group = Group(parents[0], {})
    child = os.fork()
    if child == 0:
        group.enter()
        os._exit(f"poise-run-{os.getppid()}" not in Path("/proc/self/cgroup").read_text())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not group.out_of_memory
    group.remove()
    assert not list(parents[0].glob("poise-run-*"))
    with pytest.raises(PermissionError):
        Group(parents[0], {"memory.no_such_setting": "1"})
    assert not list(parents[0].glob("poise-run-*"))


def test_a_run_is_the_first_that_the_kernel_ends_if_memory_runs_out(children: Children) -> None:
    """If memory runs out, the kernel ends the run before other processes."""
    child = children()
    assert child.run("read", path="/proc/self/oom_score_adj").value.strip() == "1000"
    assert "Error" in child.failure("write", path="/proc/self/oom_score_adj").reason
