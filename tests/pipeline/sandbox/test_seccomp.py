"""The filters do not affect honest code, and each forbidden call fails by the filter alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from poise_git.agents.library.mechanisms import install
from poise_git.pipeline.sandbox import Sandbox
from poise_git.pipeline.sandbox.policies import COMPUTATION_DENIED, SERVICES_DENIED, candidate_policy
from poise_git.pipeline.sandbox.seccomp import assemble
from poise_git.settings import SandboxSettings
from tests.agents.library.support import coded_cards, recipe, root_text

ENTRIES = Path(__file__).parent / "entries"
REFUSALS = {"EPERM", "ENOSYS", "EAFNOSUPPORT", "can't start new thread", "not allowed to raise maximum limit"}


Run = Callable[..., Any]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One sandbox for all tests of the module, because its fork server takes long to import torch."""
    preloaded = {"candidate_entries": ("torch._dynamo",)}
    with pytest.MonkeyPatch.context() as patch, Sandbox(SandboxSettings(), preloaded=preloaded) as sandbox:
        patch.syspath_prepend(str(ENTRIES))
        yield sandbox


@pytest.fixture
def run(sandbox: Sandbox, tmp_path: Path) -> Run:
    def run(entry: str, **arguments: Any) -> Any:
        completed = sandbox.run(f"candidate_entries:{entry}", arguments, tmp_path, readable=(ENTRIES,))
        assert "system call filter" in {layer.name for layer in completed.layers if layer.up}
        return completed.value

    return run


@pytest.mark.slow
def test_every_shipped_card_computes_the_same_under_the_filter(run: Run) -> None:
    texts = {card.name: install(root_text(), card, {}) for card in coded_cards()} | {"grpo": root_text()}
    arguments = {"texts": texts, "rollouts": recipe()["rollouts.py"]}
    figures = run("cards", **arguments)
    assert figures == run("unfiltered_cards", **arguments)
    assert len(figures) > 50


@pytest.mark.slow
def test_the_filter_does_not_affect_honest_computations(run: Run) -> None:
    assert run("computations") == []


@pytest.mark.slow
def test_the_filter_refuses_all_other_calls(run: Run, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("before")
    found = run("refused")
    assert {name: error for name, error in found.items() if error not in REFUSALS} == {}
    assert len(found) > 70
    assert [file.name for file in tmp_path.iterdir()] == ["there"]


ALONE = """
import json, sys
sys.path.insert(0, ENTRIES)
import candidate_entries
from poise_git.pipeline.sandbox import kernel, policies, seccomp
kernel.process_control(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(policies.POLICY)
print(json.dumps(candidate_entries.refused_to_all({}, print)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["COMPUTATION_DENIED", "SERVICES_DENIED"])
def test_the_filter_alone_refuses(policy: str) -> None:
    """There is no other layer, and the rights are those of the tests."""
    text = f"ENTRIES = {str(ENTRIES)!r}\n{ALONE.replace('POLICY', policy)}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    addresses = {"vsock", "netlink of another protocol", "packet", "crypto", "vsock with high bits"}
    internet = {"ipv4", "ipv6", "netlink"}
    expected = {name: "EAFNOSUPPORT" if name in addresses | internet else "EPERM" for name in found}
    expected |= dict.fromkeys(("clone3", "x32"), "ENOSYS")
    if policy == "SERVICES_DENIED":
        expected |= dict.fromkeys(internet, "it succeeded")
    assert found == expected


@pytest.mark.slow
def test_a_call_of_another_architecture_ends_the_process(tmp_path: Path) -> None:
    """On x86_64, `int 0x80` is a call of i386, whose numbers mean something else."""
    if os.uname().machine != "x86_64":
        pytest.skip("only x86_64 has two instructions for calls")
    program = """
import ctypes, mmap
from poise_git.pipeline.sandbox import kernel, policies, seccomp
code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20 (getpid); int 0x80; ret
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
kernel.process_control(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(policies.COMPUTATION_DENIED)
print("before", flush=True)
call()
print("after", flush=True)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "before\n"
    assert done.returncode < 0


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("policy", [COMPUTATION_DENIED, SERVICES_DENIED, candidate_policy(7)], ids=lambda p: p.name)
def test_programs_fit_the_kernel(policy: Any, machine: str) -> None:
    program = assemble(policy, machine)
    assert len(program) <= 4096
    assert all(len(instruction) == 8 for instruction in program)


def test_an_unknown_architecture_has_no_filter() -> None:
    with pytest.raises(OSError, match="not known for riscv64"):
        assemble(COMPUTATION_DENIED, "riscv64")
