from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from poise_git.pipeline.sandbox import Cancelled, ChildFailed, Sandbox
from poise_git.settings import SandboxSettings
from tests import containers

pytestmark = pytest.mark.slow

ENTRIES = Path(__file__).parent / "entries"


def run(child: Any, name: str, arguments: Mapping[str, Any], **options: Any) -> Any:
    entry = f"entries_for_tests:{name}"
    return child.sandbox.run(entry, arguments, child.scratch, readable=(ENTRIES,), **options)


def test_a_child_returns_value_messages_and_output(children: Any) -> None:
    heard: list[Mapping[str, Any]] = []
    arguments = {"text": "é\n", "numbers": [1, 2.5, None], "long": "x" * 200_000}
    child = children()
    completed = run(child, "echo", arguments, on_message=heard.append)
    assert completed.value == {"arguments": arguments, "folder": str(child.scratch)}
    assert heard == [{"heard": arguments}]
    assert completed.output == "printed by echo\n"


def test_the_processor_time_is_measured_for_the_child(children: Any) -> None:
    completed = children().run("spin_a_while", seconds=0.3)
    assert 0.3 <= completed.cpu_seconds < 0.6


def test_environment_holds_no_secret(children: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    found = children().run("surroundings").value["environment"]
    assert "secret" not in str(found)
    assert set(found) <= {
        *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "USER", "PYTHONHASHSEED"),
        *(f"{library}_NUM_THREADS" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")),
    }


def test_a_child_is_the_user_nobody_and_sees_no_other_process(children: Any) -> None:
    child = children()
    completed = child.run("surroundings")
    missing = {layer.name for layer in completed.layers if not layer.up}
    found = completed.value
    assert found["descriptors"][:4] == [0, 1, 2, 3]
    assert len(found["descriptors"]) == 5, "beside the standard ones: the message pipe, and the listing itself"
    assert found["capabilities"].split()[1].strip("0") == ""
    if "unprivileged user" not in missing:
        assert found["uid"] != 0
    if "process namespace" not in missing:
        assert found["pid"] == 2
        assert found["processes"] == [1, 2]


def test_server_preloads_modules_and_has_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ENTRIES))
    with Sandbox(SandboxSettings(), preloaded={"entries_for_tests": ("numpy", "torch", "no_such_module")}) as sandbox:
        found = sandbox.run("entries_for_tests:surroundings", {}, tmp_path, readable=(ENTRIES,)).value
        assert found["modules"] == ["numpy", "torch"]
        threads = [len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in _marked(str(ENTRIES))]
    assert threads
    assert set(threads) == {1}


def test_the_scratch_folder_is_writable_and_persists(children: Any) -> None:
    child = children()
    (child.scratch / "folder").mkdir()
    (child.scratch / "folder" / "there").write_text("before")
    child.run("write", path="new")
    child.run("write", path="folder/there")
    assert (child.scratch / "new").read_text() == "written"
    assert (child.scratch / "folder" / "there").read_text() == "written"


def test_writing_elsewhere_fails(children: Any, tmp_path: Path) -> None:
    child = children()
    target = tmp_path / "outside"
    target.write_text("before")
    target.chmod(0o666)
    for path in (str(target), "../new", "/tmp/poise-outside", "/dev/shm/poise-outside", str(ENTRIES / "new")):
        assert child.failure("write", path=path).reason.split(":")[0] in (
            "PermissionError",
            "FileNotFoundError",
            "OSError",
        )
    assert target.read_text() == "before"
    assert not (ENTRIES / "new").exists()


def test_reading_a_private_file_fails(children: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    secret.chmod(0o666)
    reasons = [children().failure("read", path=path).reason for path in (str(secret), "/etc/passwd")]
    assert all(reason.startswith(("PermissionError", "FileNotFoundError")) for reason in reasons)


def test_a_readable_folder_can_be_read_but_not_written(children: Any, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "weights").write_text("numbers")
    child = children()
    readable = (ENTRIES, shared)

    def call(name: str, file: str) -> Any:
        arguments = {"path": str(shared / file)}
        return child.sandbox.run(f"entries_for_tests:{name}", arguments, child.scratch, readable=readable).value

    assert call("read", "weights") == "numbers"
    with pytest.raises(ChildFailed, match=r"PermissionError|OSError"):
        call("write", "weights")
    assert (shared / "weights").read_text() == "numbers"


def test_a_child_has_no_network(children: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.3)
        reason = children().failure("connect", host="127.0.0.1", port=server.getsockname()[1]).reason
        assert reason.startswith(("OSError", "PermissionError", "ConnectionRefusedError"))
        children().failure("send_datagram", host="127.0.0.1", port=receiver.getsockname()[1])
        with pytest.raises(TimeoutError):
            receiver.recv(16)


def test_cancellation_ends_the_child(children: Any) -> None:
    cancelled = threading.Event()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        run(children(), "sleep", {}, cancelled=cancelled, on_message=lambda message: cancelled.set())
    assert time.monotonic() - began < 10


def test_an_error_of_the_listener_ends_the_child(children: Any) -> None:
    def refuse(message: Mapping[str, Any]) -> None:
        raise LookupError("not wanted")

    with pytest.raises(LookupError):
        run(children(), "sleep", {}, on_message=refuse)


def test_many_threads_can_use_the_sandbox_at_once(children: Any) -> None:
    child = children()

    def call(number: int) -> Any:
        if number % 4 == 3:
            return child.failure("fail").reason
        return child.run("echo", number=number).value["arguments"]["number"]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(call, range(24)))
    assert found == ["ValueError: the first line the second line" if n % 4 == 3 else n for n in range(24)]


def test_dead_server_is_replaced(children: Any) -> None:
    child = children()
    child.run("echo")
    server = children.server()
    os.kill(server, signal.SIGKILL)
    assert child.run("echo").value["arguments"] == {}
    assert server != children.server()


def test_runs_end_when_the_server_is_killed(children: Any) -> None:
    child = children()
    child.run("echo")
    server = children.server()
    with pytest.raises(ChildFailed, match="killed"):
        run(child, "sleep", {}, on_message=lambda message: os.kill(server, signal.SIGKILL))
    assert children.left() == []


@pytest.mark.parametrize("place", ["here", "in a container"])
@pytest.mark.parametrize("entry", ["sleep", "leave_orphans_and_stay"])
def test_everything_dies_with_the_parent(entry: str, place: str, tmp_path: Path) -> None:
    """With a process namespace and without one."""
    if place != "here":
        containers.require()
    mark = str(tmp_path / "mark")
    parent = f"""
import sys; sys.path[:0] = [{str(ENTRIES)!r}, {mark!r}]
from pathlib import Path
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings
Sandbox(SandboxSettings(), preloaded={{}}).run("entries_for_tests:{entry}", {{}}, Path({str(tmp_path)!r}),
    readable=[Path({str(ENTRIES)!r})], on_message=lambda message: print("asleep", flush=True))
"""
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(
        command if place == "here" else containers.command(*command),
        stdout=subprocess.PIPE,
        env=containers.environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"asleep\n"
        assert len(_marked(mark)) >= 3
        process.kill()
    deadline = time.monotonic() + 5
    while _marked(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _marked(mark) == []


def _marked(mark: str) -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in (command := file.read_bytes()) and b"sandbox.server" in command:
                found.append(file.parent.name)
        except OSError:
            continue
    return found
