from __future__ import annotations

import pytest

ray_exceptions = pytest.importorskip("ray.exceptions")

from poise_git.pipeline.executors.ray.suspicion import Suspicion, is_out_of_memory  # noqa: E402
from poise_git.pipeline.interface import Progress  # noqa: E402


def progress(stage: str = "train") -> Progress:
    return Progress(stage, 1, 2, {})


def test_a_run_alone_is_blamed_the_second_time() -> None:
    suspicion = Suspicion()
    assert suspicion.record(["a"]) is None
    assert suspicion.admitted(["a"]) == ["a"]
    assert suspicion.record(["a"]) == "a"


def test_suspected_runs_run_alone_until_the_cause_is_found() -> None:
    suspicion = Suspicion()
    for key in ("a", "b"):
        suspicion.hear(key, progress())
    assert suspicion.admitted(["a", "b", "waiting"]) == ["a", "b", "waiting"]
    assert suspicion.record(["a", "b", "waiting"]) is None
    assert suspicion.admitted(["a", "b", "waiting"]) == ["a"]
    suspicion.clear(["a"])
    assert suspicion.admitted(["b", "waiting"]) == ["b"]
    assert suspicion.record(["b"]) is None
    assert suspicion.record(["b"]) == "b"
    suspicion.clear(["b"])
    assert suspicion.admitted(["waiting", "later"]) == ["waiting", "later"]


def test_a_board_without_a_report_leaves_all_runs_suspected() -> None:
    suspicion = Suspicion()
    assert suspicion.record(["a", "b"]) is None
    assert suspicion.admitted(["a", "b"]) == ["a"]


def test_the_stage_is_the_last_reported_one() -> None:
    suspicion = Suspicion()
    assert suspicion.stage_of("a") == "train"
    for stage in ("warm start", "train"):
        suspicion.hear("a", progress(stage))
        assert suspicion.stage_of("a") == "train"
    suspicion.hear("a", progress("evaluate"))
    assert suspicion.stage_of("a") == "evaluate"


def test_only_lack_of_memory_is_blamed_on_a_run() -> None:
    assert is_out_of_memory(ray_exceptions.OutOfMemoryError("no"))
    assert is_out_of_memory(ray_exceptions.RayActorError(None, "killed due to the node running low on memory"))
    assert not is_out_of_memory(ray_exceptions.RayActorError(None, "its machine died"))
