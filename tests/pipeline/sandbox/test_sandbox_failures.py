"""Every misbehavior of a child ends in one clear line, and harms no other process."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from poise_git.pipeline.sandbox import ChildFailed
from tests.pipeline.sandbox.conftest import ENTRIES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("entry", "arguments", "reason"),
    [
        ("fail", {}, "ValueError: the first line the second line"),
        ("exit_politely", {}, "SystemExit: 3"),
        ("leave", {}, "ended without a result (exit status 0)"),
        ("kill_itself", {}, "killed by signal 9 (SIGKILL)"),
        ("crash", {}, "killed by signal 11 (SIGSEGV)"),
        ("not_json", {}, "TypeError: Object of type object is not JSON serializable"),
        ("print_without_end", {}, "wrote more than 4 MB of output"),
        ("write_large_file", {"mb": 5}, "OSError: [Errno 27] File too large"),
        ("allocate", {"gb": 100}, "MemoryError"),
        ("write_garbage", {"text": "nonsense\n"}, "sent something that is not a message on the message pipe"),
        ("write_garbage", {"text": "[1]\n"}, "sent something that is not a message on the message pipe"),
        ("write_garbage", {"text": "[" * 100_000 + "\n"}, "sent something that is not a message on the message pipe"),
        ("write_garbage", {"text": '{"message": 3}\n'}, "sent a message of kind 'message' with the wrong content"),
        ("write_giant_message", {}, "sent a message of more than 16 MB"),
        ("pretend_new_layers", {}, "sent something that is not a message on the message pipe"),
        ("no_such_entry", {}, "AttributeError: module 'entries_for_tests' has no attribute 'no_such_entry'"),
    ],
)
def test_a_failure_has_a_reason(children: Any, entry: str, arguments: dict[str, Any], reason: str) -> None:
    child = children()
    assert child.failure(entry, **arguments).reason == reason
    assert child.run("echo").output == "printed by echo\n", "the sandbox continues"


def test_output_is_kept_with_the_failure(children: Any) -> None:
    output = children().failure("fail").output
    assert output.startswith("before the end")
    assert "ValueError" in output


@pytest.mark.parametrize("entry", ["sleep", "spin"])
def test_the_time_limit_ends_the_child(children: Any, entry: str) -> None:
    began = time.monotonic()
    failure = children(wall_seconds=1).failure(entry)
    assert failure.reason == "wall time limit of 1 s reached"
    assert time.monotonic() - began < 10


def test_the_processor_limit_ends_the_child(children: Any) -> None:
    assert children(cpu_seconds=1).failure("spin").reason == "CPU time limit of 1 s reached"


@pytest.mark.needs_layers("user namespace")
def test_a_fork_bomb_is_stopped(children: Any) -> None:
    child = children(processes=8)
    assert child.failure("fork_without_end").reason.startswith("BlockingIOError: ")
    assert children.server(), "only the fork server remains"


def test_orphans_are_ended(children: Any) -> None:
    assert children().run("leave_orphans").value == "gone"
    assert children.server()


def test_a_child_that_kills_every_process_reaches_no_other(children: Any) -> None:
    child = children()
    child.run("echo")
    server = children.server()
    with contextlib.suppress(ChildFailed):
        child.run("kill_everybody")
    assert child.run("echo").output == "printed by echo\n"
    assert children.server() == server


def test_checks_have_shorter_limits_than_training(children: Any) -> None:
    child = children(check_seconds=1, wall_seconds=20)
    began = time.monotonic()
    with pytest.raises(ChildFailed, match="wall time limit of 1 s reached"):
        child.sandbox.run(
            "entries_for_tests:sleep", {}, child.scratch, readable=(ENTRIES,), limits=child.sandbox.check_limits
        )
    assert time.monotonic() - began < 10
