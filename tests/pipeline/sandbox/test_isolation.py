from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from poise_git.pipeline.sandbox import isolation

pytestmark = pytest.mark.slow

NAMES = {
    *("user namespace", "network namespace", "process namespace", "mount namespace", "ipc namespace"),
    *(
        "private root folder",
        "unprivileged user",
        "resource limits",
        "no new privileges",
        "no capabilities",
        "no new namespaces",
        "empty bounding set",
        "landlock",
        "system call filter",
        "quota",
    ),
    *("candidate write limit", "candidate landlock", "candidate system call filter"),
}
UNCONDITIONAL = {"resource limits", "no new privileges", "no capabilities", "system call filter", "quota"}


def test_every_layer_is_listed_and_tested() -> None:
    layers = isolation()
    assert {layer.name for layer in layers} == NAMES
    assert {layer.name for layer in layers if layer.up} >= UNCONDITIONAL
    assert all(layer.detail for layer in layers if not layer.up)


WITHOUT_NAMESPACES = """
import sys, tempfile
from pathlib import Path
sys.path.insert(0, ENTRIES)
from poise_git.errors import PoiseError
from poise_git.pipeline.sandbox import Sandbox, isolation
from poise_git.settings import SandboxSettings

print(*(layer.name for layer in isolation() if not layer.up), sep=",")
scratch, readable = Path(tempfile.mkdtemp()), [Path(ENTRIES)]
with Sandbox(SandboxSettings(), preloaded={}) as sandbox:
    for entry in ("echo", "leave_orphans", "leave"):
        try:
            print(sandbox.run("entries_for_tests:" + entry, {}, scratch, readable=readable).value)
        except PoiseError as error:
            print(error)
with Sandbox(SandboxSettings(require_isolation=True), preloaded={}) as sandbox:
    try:
        sandbox.run("entries_for_tests:write", {"path": "ran"}, scratch, readable=readable)
    except PoiseError as error:
        print(error)
print(list(scratch.iterdir()))
"""


def forbid_namespaces() -> None:
    """Become a user who may not create namespaces, as if a distribution's AppArmor forbids them."""
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000) != 0:
        raise OSError("no user namespace")
    for file, text in (("setgroups", "deny"), ("uid_map", f"12345 {user} 1"), ("gid_map", f"12345 {group} 1")):
        Path("/proc/self", file).write_text(text)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def test_missing_namespaces_are_reported_and_the_other_layers_hold(tmp_path: Path) -> None:
    entries = Path(__file__).parent / "entries"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", f"ENTRIES = {str(entries)!r}\n{WITHOUT_NAMESPACES}"]
    try:
        done = subprocess.run(
            command, env=environment, preexec_fn=forbid_namespaces, capture_output=True, text=True, check=False
        )
    except subprocess.SubprocessError:
        pytest.skip("this machine allows no user namespace to forbid namespaces in")
    missing, echoed, orphans, left, refused, files = done.stdout.splitlines()
    assert {"user namespace", "network namespace", "process namespace"} <= set(missing.split(","))
    assert not UNCONDITIONAL & set(missing.split(","))
    assert echoed.startswith("{'arguments': {}")
    assert orphans == "gone"
    assert left == "ended without a result (exit status 0)"
    assert refused.startswith("the sandbox lacks user namespace, ")
    assert "poise.yaml requires every layer" in refused
    assert files == "[]"
