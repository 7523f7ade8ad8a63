"""Base policies, trained once per machine and cached outside git under the hash of their settings and their code."""

from __future__ import annotations

import hashlib
import inspect
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from poise_git.errors import RunFailed
from poise_git.pipeline.backends.testbed import (
    arithmetic,
    evaluation,
    policy,
    reasoning_gym,
    sampling,
    trees,
    warm_start,
    worlds,
)
from poise_git.pipeline.backends.testbed.settings import RegimeSettings, TestbedSettings
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.backends.testbed.trainer import load_policy
from poise_git.pipeline.cache import cache_folder, locked
from poise_git.pipeline.replies import Failure, parse
from poise_git.pipeline.sandbox import ChildFailed, Sandbox
from poise_git.pipeline.sandbox.removal import FileRefused, fresh_folder, remove_tree, take_file

# The modules that, with the settings, determine a base policy.
MADE_BY: tuple[ModuleType, ...] = (arithmetic, evaluation, policy, reasoning_gym, sampling, trees, warm_start, worlds)
# The sources are read when the code is loaded, so that a later edit does not change the hash of what this process runs.
SOURCES = tuple(inspect.getsource(module) for module in MADE_BY)

OnSteps = Callable[[int, float], None]


def cached_file(settings: RegimeSettings, world: int) -> Path:
    """The path of the base policy of `world`, whether or not the file exists."""
    return cache_folder("base-policies") / f"{_content_hash(settings, world)}.pt"


def ensure_base_policy(
    settings: RegimeSettings,
    world: int,
    sandbox: Sandbox,
    on_steps: OnSteps,
    cancelled: threading.Event | None = None,
) -> Path:
    """Return the file of the base policy of `world`; train it if this machine does not have it yet.

    Args:
        on_steps: gets the steps done and the loss in nats per token.

    Raises:
        RunFailed: its training failed, or did not reach the regime's strength.
        Cancelled: `cancelled` was set.
    """
    file = cached_file(settings, world)
    if file.exists():
        return file
    with locked(file.with_suffix(".lock")), fresh_folder(file.parent) as scratch:
        if file.exists():
            return file
        try:
            completed = sandbox.run(
                f"{warm_start.__name__}:{warm_start.train_base_policy.__name__}",
                {"settings": settings.model_dump(mode="json"), "world": world},
                scratch,
                on_message=lambda message: on_steps(int(message["done"]), float(message["loss"])),
                # This code is trusted, and a large policy takes long, so there is no limit of time.
                limits=replace(sandbox.limits, cpu_seconds=None, wall_seconds=None),
                cancelled=cancelled,
            )
            if completed.value is not None:
                raise ChildFailed(parse(completed.value, Failure, "warm start").reason)
            made = file.with_suffix(".part")
            remove_tree(made)
            take_file(scratch, warm_start.WEIGHTS_FILE, made, sandbox.limits.file_mb)
        except (ChildFailed, FileRefused) as error:
            raise RunFailed("warm start", error.reason) from error
        load_policy(settings, build_task(settings, world), made)
        made.replace(file)
    return file


def base_policies(settings: TestbedSettings) -> dict[Path, tuple[str, int]]:
    """Every base policy that the regimes begin with, once: its file, with a regime and a world that use it."""
    return {
        cached_file(own, world): (name, world) for name, own in settings.regimes.items() for world in own.task.worlds
    }


def ensure_base_policies(
    settings: TestbedSettings, sandbox: Sandbox, on_steps: Callable[[Path, int, float], None], workers: int
) -> None:
    """Make all of them, `workers` at a time; `on_steps` gets the file before steps and loss. Raises RunFailed."""
    ended = threading.Event()

    def ensure(file: Path, name: str, world: int) -> Path:
        try:
            return ensure_base_policy(
                settings.regimes[name], world, sandbox, lambda done, loss: on_steps(file, done, loss), ended
            )
        except RunFailed as error:
            raise RunFailed(f"{error.stage} of regime {name}", error.reason) from error

    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            for future in [pool.submit(ensure, file, *of) for file, of in base_policies(settings).items()]:
                future.result()
        except BaseException:
            # The pool waits for its threads, and a base policy takes minutes.
            ended.set()
            raise


def _content_hash(settings: RegimeSettings, world: int) -> str:
    made_of = {
        "world": world,
        # The mix of training prompts and the number of worlds do not affect a base policy.
        "task": settings.task.model_dump(mode="json", exclude={"worlds", "training_mix"}),
        "policy": settings.policy.model_dump(mode="json"),
        "warm_start": settings.warm_start.model_dump(mode="json"),
        "evaluation": settings.evaluation.model_dump(
            mode="json", include={"suites", "samples", "temperature", "figure"}
        ),
        "source": SOURCES,
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
