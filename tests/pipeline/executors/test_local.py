from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from poise_git.archive.entries import Run
from poise_git.errors import RunFailed, UsageError
from poise_git.pipeline.backends.testbed.backend import TestbedBackend
from poise_git.pipeline.executors.local import LocalExecutor
from poise_git.pipeline.executors.machine import Machine, visible_gpus
from poise_git.pipeline.executors.stages import shards_at_once
from poise_git.pipeline.interface import (
    Demand,
    Evaluated,
    Job,
    OnProgress,
    Progress,
    Resources,
    Trained,
    tree_id,
)
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.sandbox import Cancelled, Sandbox
from tests.pipeline.executors.conftest import MakeJob, figures


class OnDevices:
    """A backend that trains nothing, and records the devices that its stages hold at the same time."""

    def __init__(self, demand: Demand, together: int, shards: Sequence[str]) -> None:
        self.needs, self.names = demand, tuple(shards)
        self.held: list[tuple[int, ...]] = []
        self.busy: set[int] = set()
        self.meeting = threading.Barrier(together, timeout=20)
        self.parting = threading.Barrier(together, timeout=20)
        self.failing = ""

    def validate(self, protocol: Protocol, file: str) -> None: ...

    def prepare(self, protocol: Protocol, sandbox: Sandbox, on_progress: OnProgress, workers: int) -> None: ...

    def demand(self, protocol: Protocol) -> Demand:
        return self.needs

    def shards(self, protocol: Protocol) -> tuple[str, ...]:
        return self.names

    def train(self, job: Job, sandbox: Sandbox, on_progress: OnProgress, cancelled: threading.Event) -> Trained:
        self._hold(job.gpus)
        return Trained({}, job.scratch, 1.0)

    def evaluate(
        self,
        job: Job,
        trained: Trained,
        shard: str,
        sandbox: Sandbox,
        on_progress: OnProgress,
        cancelled: threading.Event,
    ) -> Evaluated:
        if shard == self.failing:
            raise RunFailed("evaluate", shard)
        if self.failing:
            assert cancelled.wait(20)
            raise Cancelled
        self._hold(job.gpus)
        return Evaluated(shard, {"gpus": list(job.gpus)}, 1.0)

    def assemble(self, job: Job, trained: Trained, evaluated: Sequence[Evaluated]) -> Run:
        assert tuple(one.shard for one in evaluated) == self.names
        return Run(job.protocol.hash, job.seed, {}, {}, {}, (), sum(one.cpu_seconds for one in evaluated))

    def _hold(self, gpus: tuple[int, ...]) -> None:
        assert not self.busy & set(gpus)
        self.busy |= set(gpus)
        self.held.append(gpus)
        self.meeting.wait()
        self.busy -= set(gpus)
        # Use another barrier: at the same one, a thread could replace the one that it should meet.
        self.parting.wait()


def no_progress(job: Job, progress: Progress) -> None: ...


def test_each_job_has_devices_of_its_own_and_its_shards_share_them(make_job: MakeJob, sandbox: Sandbox) -> None:
    demand = Demand(Resources(2, gpus=2), Resources(1, gpus=1))
    backend = OnDevices(demand, together=4, shards=("a", "b"))
    # Two jobs train on two devices each, then four shards evaluate on one each: the barrier waits for four at once.
    backend.meeting = threading.Barrier(2, timeout=20)
    backend.parting = threading.Barrier(2, timeout=20)
    executor = LocalExecutor(backend, sandbox, demand, Machine(cores=5, gpus=(2, 3, 6, 7)))
    assert executor.workers == 2
    outcomes = list(executor.run([make_job(seed) for seed in (0, 1)], no_progress))
    assert [outcome.failure for outcome in outcomes] == [None, None]
    assert sorted(backend.held[:2]) == [(2, 3), (6, 7)]
    assert sorted(backend.held[2:]) == [(2,), (3,), (6,), (7,)]


def test_a_failing_shard_stops_the_others(make_job: MakeJob, sandbox: Sandbox) -> None:
    demand = Demand(Resources(2), Resources(1))
    backend = OnDevices(demand, together=1, shards=("waits", "fails"))
    backend.failing = "fails"
    (outcome,) = LocalExecutor(backend, sandbox, demand, Machine(cores=2)).run([make_job()], no_progress)
    assert outcome.failure is not None
    assert outcome.failure.reason == "fails"


@pytest.mark.parametrize(
    ("claim", "cap", "slots"),
    [
        (Resources(1), None, 8),
        (Resources(1), 3, 3),
        (Resources(3), None, 2),
        (Resources(0.5), None, 16),
        (Resources(1, gpus=1), None, 4),
        (Resources(1, gpus=3), None, 1),
    ],
)
def test_resources_and_the_cap_limit_concurrent_jobs(claim: Resources, cap: int | None, slots: int) -> None:
    assert Machine(cores=8, gpus=(0, 1, 2, 3)).slots(claim, cap) == slots


@pytest.mark.parametrize(("claim", "what"), [(Resources(1, gpus=5), "5 GPUs"), (Resources(9), "9 cores")])
def test_a_job_that_can_never_run_is_refused_at_the_start(sandbox: Sandbox, claim: Resources, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        LocalExecutor(TestbedBackend(), sandbox, Demand(claim, Resources()), Machine(cores=8, gpus=(0, 1, 2, 3)))
    assert "\n" not in str(caught.value)


def test_shards_fit_into_the_claim() -> None:
    assert shards_at_once(Demand(Resources(8, gpus=8), Resources(1, gpus=2))) == 4
    assert shards_at_once(Demand(Resources(2, gpus=8), Resources(1, gpus=2))) == 2
    assert shards_at_once(Demand(Resources(1), Resources(2))) == 1


def test_visible_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nvidia1", "nvidia0", "nvidia10", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(tmp_path) == (0, 1, 2), "as CUDA counts them"
    for text, indices in (("", ()), ("-1", ()), ("3, 5", (3, 5)), ("GPU-aaaa,GPU-bbbb", (0, 1))):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
        assert visible_gpus(tmp_path) == indices


def test_a_key_is_the_git_hash_of_the_content(make_job: MakeJob, tmp_path: Path) -> None:
    files = {"a.py": "x = 'ü'\n", "a/b.py": "", "a-b": "1", "deep/er/file": "2\n"}
    for name, text in files.items():
        if name != "a.py":
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    assert git("write-tree") == tree_id(files)
    job, other = make_job(), make_job(line="1")
    assert job.key == replace(job, candidate="another", gpus=(1,)).key
    assert len({job.key, other.key, replace(job, seed=7).key}) == 3


@pytest.mark.slow
def test_the_first_failure_of_a_candidate_drops_its_other_jobs(make_job: MakeJob, sandbox: Sandbox) -> None:
    backend, demand = TestbedBackend(), Demand(Resources(), Resources())
    executor = LocalExecutor(backend, sandbox, demand, Machine(cores=2))
    jobs = [make_job(0, "bad", "raise ValueError('no')"), make_job(2, "bad", "raise ValueError('no')"), make_job()]
    outcomes = list(executor.run(jobs, no_progress))
    assert sorted(outcome.job.candidate for outcome in outcomes) == ["bad", "grpo"]
    good = next(outcome for outcome in outcomes if outcome.job.candidate == "grpo")
    assert figures(good.run)["values"]
