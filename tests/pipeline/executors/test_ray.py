"""A real cluster of two cores: one that is joined, as a user's cluster would be, and one that is started."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from poise_git.errors import UsageError
from poise_git.pipeline.backends.testbed.backend import TestbedBackend
from poise_git.pipeline.executors import open_executor
from poise_git.pipeline.executors.interface import Outcome
from poise_git.pipeline.executors.local import LocalExecutor
from poise_git.pipeline.executors.machine import Machine
from poise_git.pipeline.interface import Demand, Job, Progress, Resources
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import ExecutorSettings, PoiseSettings, SandboxSettings
from tests.pipeline.executors.conftest import MakeJob, figures

ray = pytest.importorskip("ray", reason="pip install 'poise-git[verl-cpu]'")
pytestmark = pytest.mark.slow

ONE = Demand(Resources(), Resources())
SLOWLY = "__import__('time').sleep(1)"
# Grows by 100 MB at a time until it is stopped.
GREEDILY = "hoard = []; [(hoard.append(torch.ones(25_000_000)), __import__('time').sleep(0.1)) for _ in range({n})]"


def processes_of(mark: str) -> dict[int, str]:
    """Live processes that have `mark` on their command line, or descend from one that does: pid -> command line."""
    parents, commands = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents[int(folder.name)] = int(fields[1])
                commands[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    found = {pid for pid, command in commands.items() if mark in command}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: commands[pid] for pid in found - {os.getpid()}}


def wait_until(happens: Callable[[], object], seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.1)


@dataclass(frozen=True)
class Head:
    address: str
    folder: str

    def settings(self, shared: Path | None = None, memory_mb: int = 4096) -> PoiseSettings:
        return PoiseSettings(
            executor=ExecutorSettings(kind="ray", address=self.address, shared=shared),
            sandbox=SandboxSettings(memory_mb=memory_mb),
        )

    def busy(self) -> list[int]:
        return [
            pid for pid, command in processes_of(self.folder).items() if command.startswith(("ray::train", "ray::eval"))
        ]


@pytest.fixture(scope="module", autouse=True)
def _without_a_token() -> Iterator[None]:
    """Set no token, which would be kept in the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """Two cores, and two GPUs that are only counted."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        # Ray takes 127.0.0.1 of an address for the machine's own.
        address = f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"
    process = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "ray.scripts.scripts",
                "start",
                "--head",
                "--block",
                "--num-cpus=2",
                "--num-gpus=2",
            ),
            *(f"--port={address.rpartition(':')[2]}", f"--temp-dir={folder}"),
            *("--min-worker-port=0", "--max-worker-port=0", "--include-dashboard=false", "--disable-usage-stats"),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "RAY_memory_monitor_refresh_ms": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: any("raylet/raylet" in command for command in processes_of(folder).values()))
        yield Head(address, folder)
    finally:
        process.terminate()
        process.wait(30)
        wait_until(lambda: not processes_of(folder), 30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def expected(make_job: MakeJob, sandbox: Sandbox) -> dict[int, dict[str, object]]:
    """Figures of the template's recipe by seed, from the local executor."""
    executor = LocalExecutor(TestbedBackend(), sandbox, ONE, Machine(cores=2))
    outcomes = executor.run([make_job(seed) for seed in (0, 2)], lambda job, progress: None)
    return {outcome.job.seed: figures(outcome.run) for outcome in outcomes}


def run_all(
    settings: PoiseSettings, jobs: list[Job], archive: Path, on_progress: Callable[[Job, Progress], None]
) -> list[Outcome]:
    with (
        Sandbox(settings.sandbox) as sandbox,
        open_executor(settings, TestbedBackend(), jobs[0].protocol, sandbox, archive) as executor,
    ):
        return list(executor.run(jobs, on_progress))


def test_ray_gives_the_same_figures_and_a_failure_drops_its_candidate(
    head: Head, make_job: MakeJob, tmp_path: Path, expected: dict[int, dict[str, object]]
) -> None:
    bad = "raise ValueError('no')"
    jobs = [make_job(0), make_job(2), make_job(0, "bad", bad), make_job(2, "bad", bad)]
    reports: list[tuple[int, str]] = []
    outcomes = run_all(head.settings(), jobs, tmp_path, lambda job, one: reports.append((job.seed, one.stage)))
    good = {outcome.job.seed: figures(outcome.run) for outcome in outcomes if outcome.run}
    assert good == expected
    (failure,) = [outcome.failure for outcome in outcomes if outcome.failure]
    assert failure.stage == "train"
    assert failure.reason.startswith("compute_advantages raised ValueError: no (algorithm.py line ")
    assert {(0, "train"), (0, "evaluate"), (2, "train"), (2, "evaluate")} <= set(reports)


def test_a_run_uses_several_gpus_and_a_shared_folder(
    head: Head, make_job: MakeJob, tmp_path: Path, expected: dict[int, dict[str, object]]
) -> None:
    from poise_git.pipeline.executors.ray.cluster import join_cluster
    from poise_git.pipeline.executors.ray.executor import RayExecutor

    demand = Demand(Resources(1, gpus=2), Resources(1, gpus=1))
    shared = tmp_path / "shared"
    with join_cluster(head.address) as cluster:
        with RayExecutor(cluster, TestbedBackend(), demand, head.settings(shared), "board-gpus") as executor:
            (outcome,) = executor.run([make_job(0)], lambda job, progress: None)
        with pytest.raises(UsageError, match="needs 1 cores and 3 GPUs"):
            cluster.require(Resources(1, gpus=3))
    assert figures(outcome.run) == expected[0]
    assert list((shared / "board-gpus").iterdir()) == []


def test_a_killed_worker_changes_nothing(
    head: Head, make_job: MakeJob, tmp_path: Path, expected: dict[int, dict[str, object]]
) -> None:
    killed: list[int] = []

    def kill(job: Job, progress: Progress) -> None:
        if progress.stage == "train" and not killed:
            killed.extend(head.busy())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    (outcome,) = run_all(head.settings(), [make_job(0, line=SLOWLY)], tmp_path, kill)
    assert killed
    assert figures(outcome.run) == expected[0]


def test_closing_leaves_nothing_running(head: Head, make_job: MakeJob, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stop(job: Job, progress: Progress) -> None:
        if progress.stage == "train":
            raise Enough

    with pytest.raises(Enough):
        run_all(head.settings(), [make_job(seed, line=SLOWLY) for seed in (0, 2)], tmp_path, stop)
    wait_until(lambda: not head.busy(), 20)


def drive(settings: PoiseSettings, jobs: list[Job], folder: Path) -> None:
    """A driver in another process, to be killed; it writes a file for each reported stage."""
    run_all(settings, jobs, folder, lambda job, progress: (folder / progress.stage).touch())


def test_another_driver_continues_after_a_killed_one(
    head: Head, make_job: MakeJob, tmp_path: Path, expected: dict[int, dict[str, object]]
) -> None:
    from poise_git.pipeline.executors.ray.executor import board_name

    jobs = [make_job(seed, line=SLOWLY) for seed in (0, 2)]
    driver = multiprocessing.get_context("spawn").Process(target=drive, args=(head.settings(), jobs, tmp_path))
    driver.start()
    wait_until(lambda: (tmp_path / "train").exists())
    driver.kill()
    driver.join()
    settings = head.settings()
    with (
        Sandbox(settings.sandbox) as sandbox,
        open_executor(settings, TestbedBackend(), jobs[0].protocol, sandbox, tmp_path) as executor,
    ):
        outcomes = list(executor.run(jobs, lambda job, progress: None))
        begun = ray.get(ray.get_actor(board_name(tmp_path)).begun.remote())
    assert {outcome.job.seed: figures(outcome.run) for outcome in outcomes} == expected
    assert begun == {"train": 2, "evaluate": 2}


def test_a_candidate_that_needs_too_much_memory_fails(head: Head, make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(0, "greedy", "torch.ones(2_000_000_000)")
    (outcome,) = run_all(head.settings(memory_mb=2048), [job], tmp_path, lambda job, progress: None)
    assert outcome.failure is not None
    assert outcome.failure.stage == "train"
    assert "memory" in outcome.failure.reason


@pytest.mark.nightly
@pytest.mark.usefixtures("machine_memory")
def test_a_machine_out_of_memory_fails_the_run_and_leaves_no_process(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(memory[name].split()[0]) / 2**20 for name in ("MemTotal", "MemAvailable"))
    if available < 10:
        pytest.skip(f"needs 10 GiB of free memory to be safe, has {available:.1f}")
    # Ray itself takes one, and concurrent tests take as much at times; neither should reach the limit.
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{(total - available + 4.5) / total:.3f}")
    settings = PoiseSettings(executor=ExecutorSettings(kind="ray"), sandbox=SandboxSettings(memory_mb=16384))
    job = make_job(0, "greedy", GREEDILY.format(n=80))
    with (
        Sandbox(settings.sandbox) as sandbox,
        open_executor(settings, TestbedBackend(), job.protocol, sandbox, tmp_path) as executor,
    ):
        session = ray._private.worker._global_node.get_session_dir_path()
        assert processes_of(session)
        (outcome,) = executor.run([job], lambda job, progress: None)
    assert outcome.failure is not None
    assert outcome.failure.stage == "train"
    assert outcome.failure.reason.startswith("out of memory on a worker: ")
    assert "\n" not in outcome.failure.reason
    wait_until(lambda: not processes_of(session), 30)


def test_a_missing_cluster_is_an_error_of_one_line(make_job: MakeJob, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no Ray cluster at 127\.0\.0\.1:1: ") as caught:
        run_all(Head("127.0.0.1:1", "").settings(), [make_job()], tmp_path, lambda job, progress: None)
    assert "\n" not in str(caught.value)
