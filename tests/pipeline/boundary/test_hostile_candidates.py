"""Candidates that attack, with the static check off: the layer that a test names stops each of them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from poise_git.pipeline.boundary import CandidateFailed
from poise_git.pipeline.boundary.algorithm import GuardedAlgorithm
from poise_git.pipeline.boundary.door import Door
from poise_git.pipeline.boundary.hosting import Host, host
from poise_git.pipeline.boundary.opening import trusted_algorithm
from poise_git.pipeline.boundary.process import CandidateProcess
from poise_git.pipeline.sandbox import Sandbox, missing_layers
from poise_git.settings import SandboxSettings
from tests.pipeline.boundary.hostile_answers import (
    BUSY,
    DEATHS,
    DELAYS,
    FRAMES,
    MEMORY,
    TIME,
    VALUES,
    WITNESS,
    Hostile,
    text,
)
from tests.pipeline.boundary.hostile_refusals import (
    LANDLOCK,
    LIMITS,
    PRIVATE_ROOT,
    REFUSED,
    SYSTEM_CALLS,
    Refused,
    attempt,
    recipe_text,
)
from tests.pipeline.boundary.hostile_search import CHANNELS, HONEST, NOTHING_TO_FIND, SEARCH, SEEDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
BARE = Path(__file__).with_name("bare.py")
ANSWERS = (*DEATHS, *DELAYS, *VALUES, *FRAMES, *MEMORY)
# Long enough for a slow machine, for candidates that must answer.
PATIENCE, IMPATIENCE = 30.0, 0.5
Open = Callable[..., GuardedAlgorithm]
REWARDS, MASK = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.5, 0.0]]), torch.ones(2, 3)
LOG_PROBS = torch.full((2, 3), -1.0)


def recipe(algorithm: str) -> dict[str, str]:
    return {"algorithm.py": algorithm, "rollouts.py": (ROOT / "recipe_template/recipe/rollouts.py").read_text()}


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    texts = {candidate.name: text(candidate) for candidate in ANSWERS}
    texts |= {candidate.name: recipe_text(candidate) for candidate in REFUSED}
    texts |= {"honest": HONEST, "search": SEARCH, "seeds": SEEDS, **CHANNELS}
    recipes = {name: recipe(algorithm) for name, algorithm in texts.items()}
    with Sandbox(SandboxSettings()) as sandbox, host(sandbox, recipes, may_lack_layers=True) as running:
        yield running


@pytest.fixture
def up(running: Host) -> Callable[[str], None]:
    """Skips a test if this machine lacks the layer; `doctor` reports it and strict settings refuse it."""

    def require(layer: str) -> None:
        if layer in running.missing:
            pytest.skip(f"this machine has no layer {layer!r}")

    return require


@pytest.fixture(scope="module")
def lacking() -> frozenset[str]:
    """The missing layers of the sandbox on this machine, without those of a candidate's own confinement."""
    return frozenset(layer.name for layer in missing_layers())


@pytest.fixture
def opened(running: Host) -> Iterator[Open]:
    """Opens candidates of one host. Afterward an honest candidate must answer, and nothing else may have changed."""
    # The door closes with its last copy, and the host ends with it.
    door, made = Door(os.dup(running.door)), list[GuardedAlgorithm]()
    layers, descriptors = running.layers, len(os.listdir("/proc/self/fd"))

    def open_candidate(name: str, *, witness: bool = False, patience: float = PATIENCE) -> GuardedAlgorithm:
        other = CandidateProcess.opened(door, name, patience) if witness else None
        try:
            made.append(GuardedAlgorithm(CandidateProcess.opened(door, name, patience), other, seed=0))
        except CandidateFailed:
            if other is not None:
                other.close()
            raise
        return made[-1]

    yield open_candidate
    assert torch.equal(advantages_of(open_candidate("honest")), 2.0 * REWARDS)
    for algorithm in made:
        algorithm.close()
    door._line.close()
    assert running.layers == layers
    assert running.reason is None
    # No descriptor came over a connection. A process that failed to start keeps its own until it is collected.
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1


def advantages_of(algorithm: GuardedAlgorithm) -> torch.Tensor:
    return algorithm.advantages(REWARDS, MASK, ["a", "a"])


def gradient_of(algorithm: GuardedAlgorithm, advantages: torch.Tensor, step: int = 0) -> torch.Tensor:
    log_probs = LOG_PROBS - 0.01 * step
    return algorithm.gradient(LOG_PROBS, log_probs, advantages, MASK, "token-mean").by_log_probs


def failure(act: Callable[[], object]) -> str:
    with pytest.raises(CandidateFailed) as caught:
        act()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 700
    return message


def both(algorithm: GuardedAlgorithm) -> None:
    gradient_of(algorithm, advantages_of(algorithm))


@pytest.mark.parametrize("candidate", REFUSED, ids=lambda candidate: f"{candidate.name}: {candidate.layer}")
def test_an_attempt_is_refused(
    candidate: Refused, opened: Open, up: Callable[[str], None], lacking: frozenset[str]
) -> None:
    up(candidate.layer)
    message = failure(lambda: advantages_of(opened(candidate.name)))
    # Without the private root folder most of these files exist, and Landlock refuses them.
    landlock = {"EACCES"} if candidate.layer == PRIVATE_ROOT and PRIVATE_ROOT in lacking else set()
    assert any(f"refused with {error}" in message for error in {candidate.error} | landlock)


def attempts_under(layer: str, candidates: Sequence[Refused]) -> Mapping[str, str]:
    done = subprocess.run(
        [sys.executable, str(BARE), layer],
        input=json.dumps({candidate.name: attempt(candidate.code) for candidate in candidates}),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("layer", [SYSTEM_CALLS, LANDLOCK])
def test_the_layer_alone_refuses_the_attempt(layer: str, up: Callable[[str], None]) -> None:
    """There is no other layer, no private root and no namespace; the rights are those of the tests."""
    up(layer)
    candidates = [candidate for candidate in REFUSED if candidate.layer == layer]
    expected = {candidate.name: f"refused with {candidate.error}" for candidate in candidates}
    assert attempts_under(layer, candidates) == expected


def test_the_attempt_succeeds_without_any_layer() -> None:
    """Or it fails because of its arguments, not for a missing right; so the layer had refused it."""
    harmless = [candidate for candidate in REFUSED if candidate.harmless and candidate.error != "ENOSYS"]
    found = attempts_under("none", harmless)
    same = {candidate.name for candidate in harmless if candidate.error in found[candidate.name]}
    # Calls that only root may make, or that a locked-down machine or a container's filter refuses.
    assert len(same) <= 12, same
    if os.geteuid() == 0:
        assert not same & {candidate.name for candidate in harmless if candidate.layer != SYSTEM_CALLS}
    assert "it succeeded" in found["fork"]
    assert "it succeeded" in found["write-a-file"]
    assert "it succeeded" in found["its-environment"]


def test_files_that_the_private_root_hides_exist_without_it() -> None:
    """The private root gives ENOENT; Landlock would give EACCES."""
    hidden = [candidate for candidate in REFUSED if candidate.layer == PRIVATE_ROOT and candidate.harmless]
    found = attempts_under(LANDLOCK, hidden)
    existing = {candidate.name: told for candidate in hidden if "ENOENT" not in (told := found[candidate.name])}
    assert set(existing.values()) == {"refused with EACCES"}
    assert "users" in existing


def test_each_of_three_layers_alone_prevents_writing_a_file() -> None:
    """Each of a candidate's own layers forbids it alone."""
    code = 'with open("there", "r+b", buffering=0) as file: return file.write(b"x")'
    told = {
        layer: attempts_under(layer, [Refused("write", code)])["write"]
        for layer in ("none", "candidate write limit", LANDLOCK, SYSTEM_CALLS)
    }
    assert told == {
        "none": "it succeeded: 1",
        "candidate write limit": "refused with EFBIG",
        LANDLOCK: "refused with EACCES",
        SYSTEM_CALLS: "refused with EPERM",
    }


@pytest.mark.parametrize(
    "candidate", [*DEATHS, *DELAYS, *VALUES, *FRAMES], ids=lambda candidate: f"{candidate.name}: {candidate.layer}"
)
def test_a_bad_answer_fails_the_candidate(candidate: Hostile, opened: Open) -> None:
    patience = IMPATIENCE if candidate.layer == TIME else PATIENCE
    message = failure(lambda: both(opened(candidate.name, patience=patience)))
    assert re.fullmatch(rf"{candidate.shows}( \(algorithm\.py line .*)?", message), message


def test_processor_time_is_limited() -> None:
    with (
        Sandbox(SandboxSettings(cpu_seconds=1)) as sandbox,
        host(sandbox, {"busy": recipe(text(BUSY))}, may_lack_layers=True) as running,
    ):
        door = Door(os.dup(running.door))
        process_of_it = GuardedAlgorithm(CandidateProcess.opened(door, "busy"), None, 0)
        assert failure(lambda: advantages_of(process_of_it)).endswith(BUSY.shows)


@pytest.mark.parametrize("candidate", MEMORY, ids=lambda candidate: f"{candidate.name}: {candidate.layer}")
def test_memory_between_calls_is_found(candidate: Hostile, opened: Open) -> None:
    def train() -> None:
        algorithm = opened(candidate.name, witness=True)
        for step in range(150):
            gradient_of(algorithm, advantages_of(algorithm), step)

    assert candidate.layer == WITNESS
    assert re.fullmatch(candidate.shows, failure(train))


def test_memory_between_calls_is_not_found_without_a_witness(opened: Open) -> None:
    """This shows that the witness finds the memory."""
    algorithm = opened("counter")
    gradients = [gradient_of(algorithm, advantages_of(algorithm)) for _ in range(3)]
    assert not torch.equal(gradients[0], gradients[2])


@pytest.mark.parametrize("name", CHANNELS)
def test_processes_of_a_candidate_share_no_memory(name: str, opened: Open) -> None:
    """The first process leaves data in every possible way; the second finds nothing, and reports that."""
    first = opened(name)
    for _ in range(20):
        advantages_of(first)
    second = opened(name)
    assert torch.equal(advantages_of(second)[0], torch.zeros(3))


def test_calls_cannot_be_counted_by_their_seeds(opened: Open) -> None:
    """This candidate knows the old seeds of the first thousand calls of every likely run; none of them occurs."""
    algorithm = opened("seeds")
    for _ in range(30):
        assert torch.equal(advantages_of(algorithm), 2.0 * REWARDS)


class Weights(torch.nn.Linear):
    """An object that a trainer holds; the search looks for its name."""


def test_a_candidate_finds_no_objects_of_the_trainer(
    opened: Open, running: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the boundary, the same search finds objects, modules, frames, the environment and descriptors."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "poise-secret")
    kept = [Weights(3, 3), torch.optim.AdamW([torch.zeros(3, requires_grad=True)])]
    found = failure(partial(advantages_of, opened("search")))
    assert NOTHING_TO_FIND in found, found
    here = failure(partial(advantages_of, trusted_algorithm(recipe(SEARCH))))
    for what in ("Weights", "AdamW", "poise-secret", "descriptors"):
        assert what in here
    assert len(kept) == 2


def test_descriptors_that_a_candidate_sends_are_dropped(opened: Open) -> None:
    before = set(os.listdir("/proc/self/fd"))
    algorithm = opened("sends-descriptors")
    during = set(os.listdir("/proc/self/fd"))
    for _ in range(10):
        advantages_of(algorithm)
    assert set(os.listdir("/proc/self/fd")) == during
    assert len(during - before) == 1
    assert socket.socket().fileno() > 0


def test_hostile_candidates_cover_every_layer() -> None:
    layers = {candidate.layer for candidate in (*REFUSED, *ANSWERS)}
    assert {LANDLOCK, LIMITS, PRIVATE_ROOT, SYSTEM_CALLS, TIME, WITNESS} <= layers
    assert len({candidate.name for candidate in (*REFUSED, *ANSWERS)}) == len(REFUSED) + len(ANSWERS) >= 150
