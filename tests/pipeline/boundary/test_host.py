"""Processes of a real host: they are opened, called and ended, and an unexpected end is reported."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor

from poise_git.pipeline.boundary import CandidateFailed
from poise_git.pipeline.boundary.algorithm import GuardedAlgorithm
from poise_git.pipeline.boundary.broker import broker, connect
from poise_git.pipeline.boundary.door import CANDIDATE, PARENT, Door
from poise_git.pipeline.boundary.hosting import STRICT, Containment, contain, host
from poise_git.pipeline.boundary.opening import trusted_algorithm
from poise_git.pipeline.boundary.process import CandidateProcess
from poise_git.pipeline.sandbox import Sandbox
from poise_git.pipeline.sandbox.layers import Layer
from tests import sentences
from tests.pipeline.boundary.conftest import RECIPE, OpenDoor, with_text

pytestmark = pytest.mark.slow

REWARDS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 0.4], [0.0, 1.0]])
MASK = torch.ones(4, 2, dtype=torch.int64)
INDEX = ["a", "a", "b", "b"]
OLD = torch.full((4, 2), -1.0)
NEW = OLD + torch.tensor([0.1, -0.1])


def algorithm(door: Door, seconds: float = 20.0) -> GuardedAlgorithm:
    return GuardedAlgorithm(CandidateProcess.opened(door, CANDIDATE, seconds), None, 0)


def advantages_of(text: str) -> dict[str, str]:
    """A recipe whose compute_advantages begins with `text`."""
    head = "def compute_advantages(token_level_rewards, response_mask, index, config=None):\n"
    return dict(with_text(f"import os, time, signal, sys\n\n\n{head}    {text}\n    return token_level_rewards, 0\n"))


def ask_often(of: GuardedAlgorithm, times: int) -> None:
    for _ in range(times):
        of.advantages(REWARDS, MASK, INDEX)


def failure(door: Door, seconds: float = 20.0) -> str:
    with pytest.raises(CandidateFailed) as caught:
        algorithm(door, seconds).advantages(REWARDS, MASK, INDEX)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_figures_are_equal_to_the_bit_with_and_without_the_boundary(open_door: OpenDoor) -> None:
    behind, without = algorithm(open_door()), trusted_algorithm(RECIPE)
    for of in range(3):
        advantages = behind.advantages(REWARDS * of, MASK, INDEX)
        assert torch.equal(advantages, without.advantages(REWARDS * of, MASK, INDEX))
        found = behind.gradient(OLD, NEW, advantages, MASK.bool(), "token-mean")
        expected = without.gradient(OLD, NEW, advantages, MASK.bool(), "token-mean")
        assert found.loss == expected.loss
        assert torch.equal(found.by_log_probs, expected.by_log_probs)


FUNCTIONS = ("sigmoid()", "tanh()", "exp().cos()", "softmax(-1)", "log1p()", "std(-1, keepdim=True)", "t().matmul(x)")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function_rounds_the_same_with_and_without_the_boundary(open_door: OpenDoor, function: str) -> None:
    """Use enough numbers for the wide instructions of a processor."""
    x = torch.linspace(0.1, 3, 256).reshape(16, 16)
    found, expected = (
        torch.empty_like(x).copy_(one.advantages(x, torch.ones_like(x), [0] * 16))
        for recipe in (advantages_of(f"x = token_level_rewards; return x.{function} + torch.randn(16, 16), 0"),)
        for one in (algorithm(open_door(recipe)), trusted_algorithm(recipe))
    )
    assert torch.equal(found, expected)


def test_a_candidate_computes_with_the_same_instructions(open_door: OpenDoor) -> None:
    said = failure(open_door(advantages_of("raise ValueError(torch.backends.cpu.get_cpu_capability())")))
    assert f"ValueError: {torch.backends.cpu.get_cpu_capability()} (" in said


def test_random_draws_depend_only_on_the_seed_and_the_call(open_door: OpenDoor) -> None:
    recipe = advantages_of("return torch.randn(token_level_rewards.shape), 0")
    door = open_door(recipe)

    def drawn(seed: int) -> list[Tensor]:
        one = GuardedAlgorithm(CandidateProcess.opened(door), CandidateProcess.opened(door), seed)
        return [one.advantages(REWARDS * factor, MASK, INDEX) for factor in (1, 1, 2)]

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(map(torch.equal, first, again))
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(trusted_algorithm(recipe, 1).advantages(REWARDS, MASK, INDEX), first[0])


def test_processes_share_no_memory_and_recipes_are_kept_apart(open_door: OpenDoor) -> None:
    counting = advantages_of("index = COUNT.append(1); return token_level_rewards + len(COUNT), 0")
    counting["algorithm.py"] += "\n\nCOUNT = []\n"
    door = open_door(counting, **{PARENT: RECIPE})
    one, other = algorithm(door), algorithm(door)
    assert [float(one.advantages(REWARDS, MASK, INDEX)[0, 0]) for _ in range(3)] == [1, 2, 3]
    assert float(other.advantages(REWARDS, MASK, INDEX)[0, 0]) == 1
    parent = GuardedAlgorithm(CandidateProcess.opened(door, PARENT), None, 0)
    assert torch.equal(
        parent.advantages(REWARDS, MASK, INDEX), trusted_algorithm(RECIPE).advantages(REWARDS, MASK, INDEX)
    )


def test_the_witness_finds_memory_between_calls(open_door: OpenDoor) -> None:
    counting = advantages_of("COUNT.append(1); return token_level_rewards * (1 + 1e-6 * len(COUNT)), 0")
    counting["algorithm.py"] += "\n\nCOUNT = []\n"
    door = open_door(counting)
    watched = GuardedAlgorithm(CandidateProcess.opened(door), CandidateProcess.opened(door), 0)
    # One call in 32 is witnessed, so the chance to miss all of these calls is one in ten million.
    with pytest.raises(CandidateFailed, match=sentences.OTHER_NUMBERS):
        ask_often(watched, 512)


def test_an_honest_candidate_agrees_with_its_witness(open_door: OpenDoor) -> None:
    door = open_door(advantages_of("return token_level_rewards + torch.randn(4, 2), 0"))
    watched = GuardedAlgorithm(CandidateProcess.opened(door), CandidateProcess.opened(door), 0)
    ask_often(watched, 200)


ENDS = {
    "exits": ("os._exit(7)", "compute_advantages ended its process: exit status 7"),
    "exits as if all were well": ("os._exit(0)", "compute_advantages ended its process: exit status 0"),
    "raises SystemExit": ("sys.exit(3)", "compute_advantages raised SystemExit: 3"),
    "kills itself": ("os.kill(os.getpid(), 9)", "compute_advantages raised PermissionError: "),
    "aborts": ("os.abort()", "compute_advantages ended its process: killed by signal 6 (SIGABRT)"),
    "ends by a signal without a name": (
        "signal.raise_signal(40)",
        "compute_advantages ended its process: killed by signal 40",
    ),
    "closes its connection": ("os.close(3); time.sleep(60)", "compute_advantages ended its process"),
    "closes everything": ("os.closerange(0, 4096); time.sleep(60)", "compute_advantages ended its process"),
    "interrupts itself": ("raise KeyboardInterrupt", "compute_advantages ended its process"),
    "sends garbage": ("os.write(3, b'x' * 100000)", "compute_advantages sent a header of 2021161080 bytes"),
    "answers before it is asked": (
        "os.write(3, b'\\0\\0\\0\\7[{},[]]'); time.sleep(60)",
        "compute_advantages must return (advantages, returns), it returned something else",
    ),
    "recurses": ("f = lambda: f(); f()", "compute_advantages raised RecursionError: maximum recursion depth exceeded"),
    "takes all memory": ("x = torch.ones(1 << 40)", "compute_advantages raised RuntimeError: "),
    "raises a lie": ("raise type('X' * 9999, (Exception,), {})()", "compute_advantages raised XXXX"),
    "returns what cannot be sent": (
        "return torch.ones(4, 2).to_sparse(), 0",
        "what compute_advantages returned raised ",
    ),
    "returns an imaginary part": (
        "return torch.complex(token_level_rewards, token_level_rewards - 1.0).conj().imag + 1e999, 0",
        "advantage is infinite",
    ),
    "returns a view of another sign": (
        "return torch.complex(token_level_rewards, token_level_rewards / 0).conj().imag, 0",
        "advantage is ",
    ),
    "returns a tensor of its own kind": (
        "return type('T', (torch.Tensor,), {'shape': (1,)})([0.0]), 0",
        "compute_advantages returned advantages of shape (1,)",
    ),
    "returns what is on no device": ("return torch.ones(4, 2, device='meta'), 0", "what compute_advantages returned"),
    "returns what has no type of ours": (
        "return torch.ones(4, 2, dtype=torch.complex64), 0",
        "what compute_advantages returned raised ValueError: a tensor of type torch.complex64 cannot be sent",
    ),
    "returns too much": ("return torch.ones(1000, 1000), 0", "compute_advantages sent 4000000 bytes of tensors"),
    "returns nothing": ("return None", "must return (advantages, returns), it returned a NoneType"),
    "returns bools": ("return token_level_rewards > 0, 0", "compute_advantages sent a tensor of type bool"),
}


@pytest.mark.parametrize("how", ENDS)
def test_every_end_of_a_process_is_reported_in_one_line(open_door: OpenDoor, how: str) -> None:
    text, said = ENDS[how]
    door = open_door(advantages_of(text))
    began = time.monotonic()
    assert failure(door).startswith(said) or said in failure(door)
    assert time.monotonic() - began < 15
    # The host continues.
    assert CandidateProcess.opened(door).ask is not None


def test_a_fork_is_ended_with_its_parent(open_door: OpenDoor) -> None:
    """The sandbox decides whether it may fork; a forked process does not delay others."""
    door = open_door(advantages_of("os.fork() or time.sleep(600); os._exit(5)"))
    began = time.monotonic()
    said = failure(door, 3.0)
    assert "compute_advantages" in said
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("text", ["time.sleep(600)", "[0 for _ in iter(int, 1)]", "signal.raise_signal(19)"])
def test_a_candidate_that_does_not_answer_fails_within_seconds(open_door: OpenDoor, text: str) -> None:
    door = open_door(advantages_of(text))
    began = time.monotonic()
    said = failure(door, 1.0)
    assert said.startswith("compute_advantages did not answer within 1.")
    assert time.monotonic() - began < 6


def test_a_candidate_that_is_slow_in_every_call_fails_as_soon(open_door: OpenDoor) -> None:
    slow = algorithm(open_door(advantages_of("time.sleep(0.6)")), 2.0)
    began = time.monotonic()
    with pytest.raises(CandidateFailed, match="did not answer within 0"):
        ask_often(slow, 100)
    assert time.monotonic() - began < 6


def test_the_time_of_loading_is_limited(open_door: OpenDoor) -> None:
    door = open_door(with_text("import time\ntime.sleep(600)"))
    with pytest.raises(CandidateFailed, match=r"^loading recipe/algorithm.py did not answer within 1.25 s$"):
        CandidateProcess.opened(door, CANDIDATE, 1.0)


def test_the_door_reports_once_how_a_process_ended(open_door: OpenDoor) -> None:
    door = open_door(advantages_of("os._exit(9)"))
    opened = door.open()
    process = CandidateProcess(opened.connection)
    with pytest.raises(CandidateFailed, match=r"^compute_advantages ended its process$"):
        process.ask("compute_advantages", {"sizes": None, "seed": 0}, (REWARDS, MASK, torch.tensor([0, 0, 1, 1])))
    assert door.how_it_ended(opened.number) == "exit status 9"
    assert door.how_it_ended(opened.number) == "", "reported once"
    door.end(opened.number)
    assert door.how_it_ended(12345) == ""


def test_an_ended_host_is_reported_in_one_line(boundary_sandbox: Sandbox) -> None:
    with host(boundary_sandbox, {CANDIDATE: RECIPE}, may_lack_layers=True) as running:
        door = Door(os.dup(running.door))
        one = algorithm(door)
    with pytest.raises(CandidateFailed, match=r"^the host of the candidate's processes is gone$"):
        door.open()
    with pytest.raises(CandidateFailed, match="ended its process"):
        one.advantages(REWARDS, MASK, INDEX)
    assert running.cpu_seconds > 0
    assert running.reason is None


def test_a_host_that_does_not_end_is_killed(boundary_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate that can stop its host delays no other process."""
    monkeypatch.setattr("poise_git.pipeline.boundary.hosting._PATIENCE", 1.0)
    recipe = advantages_of("os.kill(os.getppid(), signal.SIGSTOP)")
    began = time.monotonic()
    # The candidate fails if the kernel refuses the signal.
    with suppress(CandidateFailed), host(boundary_sandbox, {CANDIDATE: recipe}, may_lack_layers=True) as running:
        algorithm(Door(os.dup(running.door))).advantages(REWARDS, MASK, INDEX)
    assert time.monotonic() - began < 15


def test_a_candidate_cannot_open_files(open_door: OpenDoor, tmp_path: Path) -> None:
    for text, error in (
        ("open('x', 'w').write('x')", "raised"),
        ("open('/etc/hostname').read()", "raised"),
        (f"open({str(tmp_path)!r} + '/x', 'w')", "raised"),
    ):
        assert error in failure(open_door(advantages_of(text)))


def test_the_isolation_of_a_candidate_is_recorded(boundary_sandbox: Sandbox) -> None:
    allowed = Containment(may_lack_layers=True)
    with contain(boundary_sandbox, RECIPE, allowed) as candidate:
        assert candidate.host is not None
        assert len(candidate.handed) == 1
        assert all(isinstance(layer, Layer) for layer in candidate.host.layers)
    assert candidate.isolation.trusted is False
    assert candidate.failure is None
    with contain(boundary_sandbox, RECIPE, Containment(trusted=True)) as trusted:
        assert trusted.handed == ()
        assert trusted.arguments["trusted_recipe"] == RECIPE
    assert trusted.isolation.trusted is True
    assert trusted.cpu_seconds == 0.0
    assert not STRICT.trusted
    assert not STRICT.may_lack_layers


@pytest.mark.parametrize("depth", [0, 5])
def test_a_broker_serves_processes_that_inherit_nothing(open_door: OpenDoor, tmp_path: Path, depth: int) -> None:
    """This also holds if the path is longer than a socket address may be."""
    folder = tmp_path.joinpath(*["a-folder-with-a-long-name-" + "x" * 40] * depth)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "door").touch()
    with broker(open_door(), folder) as door:
        processes = [CandidateProcess(connect(door)) for _ in range(3)]
        one = GuardedAlgorithm(processes[0], processes[1], 0)
        expected = trusted_algorithm(RECIPE).advantages(REWARDS, MASK, INDEX)
        assert torch.equal(one.advantages(REWARDS, MASK, INDEX), expected)
        processes[2].close()
        assert torch.equal(one.advantages(REWARDS, MASK, INDEX), expected)
    assert not door.exists()
    with pytest.raises(CandidateFailed, match="host of the candidate's processes is gone"):
        connect(door)


def test_a_broker_survives_invalid_connections(open_door: OpenDoor, tmp_path: Path) -> None:
    with broker(open_door(), tmp_path) as door:
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(door))
                connection.sendall(b"hello")
        CandidateProcess(connect(door)).close()


def test_an_invalid_reply_of_the_host_closes_the_door() -> None:
    for reply in (b"[]", b"{", b"null", b'{"number": "x"}', b"{}", json.dumps({"number": []}).encode()):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.sendall(reply)
        with theirs, pytest.raises(CandidateFailed, match="host of the candidate's processes is gone"):
            Door(ours.detach()).open()


def test_a_late_reply_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise_git.pipeline.boundary.door._PATIENCE", 0.1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    door = Door(ours.detach())
    with theirs:
        assert theirs.fileno() > 0
        with pytest.raises(CandidateFailed, match="is gone"):
            door.how_it_ended(1)
        for _ in range(2):
            with pytest.raises(CandidateFailed, match="is gone"):
                door.open()


SEARCH = """import ctypes, gc, re

# OWN-MARK


def count(pattern):
    libc = ctypes.CDLL(None)
    libc.sbrk.restype = ctypes.c_void_p
    top = libc.sbrk(ctypes.c_long(0))
    heap = ctypes.string_at(top - HEAP, HEAP)
    return len(re.findall(pattern, heap)) + len(re.findall(pattern, repr(gc.get_objects()).encode()))


HEAP = 1 << 20


def compute_advantages(token_level_rewards, response_mask, index, config=None):
    own, parents = count(b"# [O]WN-MARK"), count(b"# [P]ARENT-MARK")
    raise ValueError(f"found its own {own > 0}, its parent's {parents > 0}")
"""


def test_a_candidate_finds_no_text_of_another_in_its_memory(open_door: OpenDoor) -> None:
    """With its parent's text, a candidate could answer the checks as its parent and train as itself."""
    door = open_door(with_text(SEARCH), **{PARENT: with_text("# PARENT-MARK " * 10_000)})
    CandidateProcess.opened(door, PARENT).close()
    assert "found its own True, its parent's False" in failure(door)
