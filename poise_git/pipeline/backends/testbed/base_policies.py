"""Base policies, trained once per machine and cached outside git under the hash of all that makes them."""

from __future__ import annotations

import hashlib
import inspect
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

from poise_git.errors import RunFailed
from poise_git.pipeline.backends.testbed import arithmetic, policy, reasoning_gym, warm_start, worlds
from poise_git.pipeline.backends.testbed.settings import TestbedSettings
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.backends.testbed.trainer import load_policy
from poise_git.pipeline.cache import cache_folder, locked
from poise_git.pipeline.sandbox import ChildFailed, Sandbox

# A base policy is what this code makes of the settings.
MADE_BY: tuple[ModuleType, ...] = (arithmetic, policy, reasoning_gym, warm_start, worlds)

OnSteps = Callable[[int, float], None]


def cached_file(settings: TestbedSettings, world: int) -> Path:
    """Where the base policy of `world` is, or is to be."""
    return cache_folder("base-policies") / f"{_content_hash(settings, world)}.pt"


def ensure_base_policy(settings: TestbedSettings, world: int, sandbox: Sandbox, on_steps: OnSteps) -> Path:
    """The file of the base policy of `world`; trains it if no process of this machine has.

    Args:
        on_steps: gets the steps done and the loss in nats a token.

    Raises:
        RunFailed: training it failed.
    """
    file = cached_file(settings, world)
    if file.exists():
        return file
    with locked(file.with_suffix(".lock")), tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        if file.exists():
            return file
        try:
            sandbox.run(
                f"{warm_start.__name__}:{warm_start.train_base_policy.__name__}",
                {"settings": settings.model_dump(mode="json"), "world": world},
                Path(scratch),
                on_message=lambda message: on_steps(int(message["done"]), float(message["loss"])),
            )
        except ChildFailed as error:
            raise RunFailed("warm start", error.reason) from error
        made = Path(scratch) / warm_start.WEIGHTS_FILE
        load_policy(settings, build_task(settings, world), made)
        made.replace(file)
    return file


def ensure_base_policies(
    settings: TestbedSettings, sandbox: Sandbox, on_steps: Callable[[int, int, float], None], workers: int
) -> None:
    """Every world's base policy, `workers` at a time; `on_steps` gets the world before steps and loss."""

    def ensure(world: int) -> Path:
        return ensure_base_policy(settings, world, sandbox, lambda done, loss: on_steps(world, done, loss))

    with ThreadPoolExecutor(max_workers=workers) as pool:
        list(pool.map(ensure, settings.task.worlds))


def _content_hash(settings: TestbedSettings, world: int) -> str:
    made_of = {
        "world": world,
        # The mix of training prompts and the number of worlds do not touch a base policy.
        "task": settings.task.model_dump(mode="json", exclude={"worlds", "training_mix"}),
        "policy": settings.policy.model_dump(mode="json"),
        "warm_start": settings.warm_start.model_dump(mode="json"),
        "source": [inspect.getsource(module) for module in MADE_BY],
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
