from __future__ import annotations

import pytest

ray_exceptions = pytest.importorskip("ray.exceptions")

from poise_git.pipeline.executors.ray.suspicion import Suspicion, is_out_of_memory  # noqa: E402
from poise_git.pipeline.interface import Progress  # noqa: E402


def progress(stage: str = "train") -> Progress:
    return Progress(stage, 1, 2, {})


def test_one_run_is_guilty_the_second_time() -> None:
    suspicion = Suspicion()
    assert suspicion.record(["a"]) is None
    assert suspicion.admitted(["a"]) == ["a"]
    assert suspicion.record(["a"]) == "a"


def test_what_was_under_way_runs_alone_until_it_is_known_who_did_it() -> None:
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


def test_a_board_that_told_nothing_leaves_all_under_suspicion() -> None:
    suspicion = Suspicion()
    assert suspicion.record(["a", "b"]) is None
    assert suspicion.admitted(["a", "b"]) == ["a"]


def test_the_stage_is_the_one_heard_of_last() -> None:
    suspicion = Suspicion()
    assert suspicion.stage_of("a") == "train"
    for stage in ("warm start", "train"):
        suspicion.hear("a", progress(stage))
        assert suspicion.stage_of("a") == "train"
    suspicion.hear("a", progress("evaluate"))
    assert suspicion.stage_of("a") == "evaluate"


def test_only_want_of_memory_is_anybodys_fault() -> None:
    assert is_out_of_memory(ray_exceptions.OutOfMemoryError("no"))
    assert is_out_of_memory(ray_exceptions.RayActorError(None, "killed due to the node running low on memory"))
    assert not is_out_of_memory(ray_exceptions.RayActorError(None, "its machine died"))
