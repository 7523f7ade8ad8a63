"""Allowances of a run beyond Python and its scratch folder: services, folders, devices, its own limits."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from poise_git.pipeline.sandbox import Allowance, ChildFailed, Limits
from tests.pipeline.sandbox.conftest import ENTRIES, Children

pytestmark = pytest.mark.slow


@pytest.mark.needs_layers("network namespace", "private root folder")
def test_services_have_a_loopback_network_and_sockets_of_their_own(children: Children) -> None:
    child = children()
    allowance = Allowance(readable=(ENTRIES,), services=True)
    with tempfile.NamedTemporaryFile(dir="/tmp", prefix="poise-outside-") as outside:
        value = child.sandbox.run("entries_for_tests:talk_to_myself", {}, child.scratch, allowance=allowance).value
    assert value["heard"] == "hello"
    assert value["interfaces"] == ["lo"]
    assert value["user"]
    assert Path(outside.name).name not in value["folders"]["/tmp"]
    assert "written-inside" in value["folders"]["/tmp"]
    assert value["folders"]["/dev/shm"] == ["written-inside"]
    assert not Path("/tmp/written-inside").exists()
    assert not Path("/dev/shm/written-inside").exists()


def test_a_run_without_services_has_no_network(children: Children) -> None:
    failure = children().failure("talk_to_myself")
    assert "Error" in failure.reason


@pytest.mark.needs_layers("network namespace")
def test_services_do_not_reach_the_loopback_network_of_the_machine(children: Children) -> None:
    child = children()
    with socket.create_server(("127.0.0.1", 0)) as outside:
        port = outside.getsockname()[1]
        with pytest.raises(ChildFailed, match="ConnectionRefusedError"):
            child.sandbox.run(
                "entries_for_tests:connect",
                {"host": "127.0.0.1", "port": port},
                child.scratch,
                allowance=Allowance(readable=(ENTRIES,), services=True),
            )


def test_only_a_writable_folder_can_be_written(children: Children, tmp_path: Path) -> None:
    child = children()
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    for folder in (allowed, other):
        folder.mkdir()
    allowance = Allowance(readable=(ENTRIES, other), writable=(allowed,))

    def write(folder: Path) -> None:
        arguments = {"path": str(folder / "file")}
        child.sandbox.run("entries_for_tests:write", arguments, child.scratch, allowance=allowance)

    write(allowed)
    assert (allowed / "file").read_text() == "written"
    with pytest.raises(ChildFailed):
        write(other)


def test_a_device_is_visible_only_if_allowed(children: Children) -> None:
    child = children()
    device = Path("/dev/full")

    def write(*devices: Path) -> str:
        allowance = Allowance(readable=(ENTRIES,), devices=devices)
        with pytest.raises(ChildFailed) as caught:
            child.sandbox.run("entries_for_tests:write", {"path": str(device)}, child.scratch, allowance=allowance)
        return caught.value.reason

    assert "No space left" in write(device)
    assert "No space left" not in write()


@pytest.mark.parametrize(
    ("limits", "fails"), [(Limits(), False), (Limits(file_mb=8), False), (Limits(file_mb=1), True)]
)
def test_a_run_may_have_limits_of_its_own(children: Children, limits: Limits, fails: bool) -> None:
    """The sandbox's own limit is 4 MB."""
    child = children()

    def run() -> None:
        child.sandbox.run(
            "entries_for_tests:write_large_file", {"mb": 6}, child.scratch, readable=(ENTRIES,), limits=limits
        )

    expect(run, fails)


def expect(run: Callable[[], None], fails: bool) -> None:
    if fails:
        with pytest.raises(ChildFailed):
            run()
    else:
        run()
