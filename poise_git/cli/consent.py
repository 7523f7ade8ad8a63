"""Compare the requests of an archive with the user's choices, before the program acts on them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from poise_git.errors import UsageError
from poise_git.pipeline.executors.machine import visible_gpus
from poise_git.pipeline.interface import Demand
from poise_git.settings import ExecutorSettings
from poise_git.user.preferences import OWN_CLUSTER, Preferences, lies_in, unchosen

SETTINGS = "poise.yaml"
CUDA = "cuda"
# A protocol may read the files in this folder of the current directory without permission.
DATA = "data"


def refuse_executor(executor: ExecutorSettings, preferences: Preferences) -> None:
    """Raise UsageError for a cluster, a shared folder or devices that the user has not allowed."""
    if executor.kind == "ray":
        address = executor.address or OWN_CLUSTER
        if address not in preferences.ray_addresses:
            what = f"the Ray cluster {address}" if executor.address else "a Ray cluster of this machine"
            raise unchosen(f"{SETTINGS}: executor", what, "ray_addresses", address)
        if executor.shared is not None and not lies_in(executor.shared, preferences.shared):
            folder = str(executor.shared.resolve())
            raise unchosen(f"{SETTINGS}: executor.shared", f"the folder {folder}", "shared", folder)
    if executor.gpus and (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        hidden = set(executor.gpus) - set(visible_gpus())
        if hidden:
            raise UsageError(
                f"{SETTINGS}: executor.gpus: asks for device {min(hidden)}, which CUDA_VISIBLE_DEVICES={visible} "
                f"hides; to allow it: export CUDA_VISIBLE_DEVICES={','.join(map(str, executor.gpus))}"
            )


def refuse_device(demand: Demand, where: str, preferences: Preferences) -> None:
    """Raise UsageError for a protocol, read from `where`, that needs a GPU which the user has not allowed."""
    if max(demand.training.gpus, demand.evaluation.gpus) and CUDA not in preferences.devices:
        raise unchosen(where, f"the device {CUDA}", "devices", CUDA)


def refuse_files(paths: Iterable[str], where: str, base: Path, preferences: Preferences) -> None:
    """Raise UsageError for a file that a protocol names, relative to `base`, and the user has not allowed."""
    for path in paths:
        # Some readers of a path expand ~ and others do not.
        for file in (base / path, base / os.path.expanduser(path)):
            if not lies_in(file, preferences.data) and not file.resolve().is_relative_to(base.resolve() / DATA):
                found = str(file.resolve())
                raise unchosen(where, f"the file {found}", "data", found)
