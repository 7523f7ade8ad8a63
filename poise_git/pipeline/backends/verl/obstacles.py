"""The reasons why a verl protocol cannot run on a machine, as far as they show without starting anything."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from poise_git.pipeline.backends.verl.estimate import model_parameters
from poise_git.pipeline.backends.verl.settings import VerlSettings, parse_settings
from poise_git.pipeline.backends.verl.versions import found_versions, install_command
from poise_git.pipeline.equipment import Equipment
from poise_git.pipeline.protocol import Protocol

# Weights, gradients and Adam's two moments in float32 (arXiv:1910.02054, section 3.1, without half-precision copies).
TRAINING_BYTES = 16
# Half-precision weights of the sampler on each device.
SAMPLING_BYTES = 2
# Two checkpoints, each with weights, moments and a copy of the weights for vLLM, in float32, because the old one stays
# until the new one is complete.
CHECKPOINT_BYTES = 2 * 16
# Memory: Ray, verl's workers and vLLM without a model, measured on a machine without a GPU. Disk: packages and logs.
LEAST_MEMORY_GB, LEAST_DISK_GB = 8.0, 2.0
_GIBIBYTE = 1 << 30


def obstacles(protocol: Protocol, file: str, machine: Equipment, base: Path) -> tuple[str, ...]:
    """One line per obstacle; the protocol's paths are relative to `base`. Raises SettingsError for a wrong protocol."""
    settings = parse_settings(protocol, file)
    return (*_software(settings), *_devices(settings, machine), *_room(settings, machine), *_files(settings, base))


def files_named(settings: VerlSettings) -> tuple[str, ...]:
    """The paths in a protocol, as written there."""
    sources = [settings.data.source, *(suite.source for suite in settings.evaluation.suites.values())]
    named = [source.path for source in sources if source.path] + ([settings.model.path] if settings.model.path else [])
    return tuple(dict.fromkeys(named))


def _software(settings: VerlSettings) -> Iterator[str]:
    if sys.platform != "linux":
        yield f"verl and vLLM need Linux, not {sys.platform}"
    device = settings.hardware.device
    wrong = [found for found in found_versions(device) if not found.fits]
    if wrong:
        names = ", ".join(f"{found.package} {found.needed}" for found in wrong)
        yield f"needs {names}: {install_command(device)}"


def _devices(settings: VerlSettings, machine: Equipment) -> Iterator[str]:
    hardware = settings.hardware
    if hardware.device == "cpu":
        return
    needed = max(hardware.gpus, hardware.evaluation_gpus)
    if len(machine.gpus) < needed:
        yield f"needs {_count(needed, 'GPU')}, there {'is' if len(machine.gpus) == 1 else 'are'} {len(machine.gpus)}"
        return
    parameters = model_parameters(settings.model)
    if parameters is None:
        return
    share = TRAINING_BYTES / hardware.gpus + SAMPLING_BYTES / hardware.tensor_parallel
    wanted = parameters * share / _GIBIBYTE
    smallest = min(gpu.memory_gb for gpu in machine.gpus)
    if smallest < wanted:
        yield f"needs {wanted:.0f} GB on each GPU for the model alone, the smallest has {smallest:.0f}"


def _room(settings: VerlSettings, machine: Equipment) -> Iterator[str]:
    if machine.memory_gb < LEAST_MEMORY_GB:
        yield f"needs {LEAST_MEMORY_GB:.0f} GB of memory, there are {machine.memory_gb:.1f}"
    wanted = LEAST_DISK_GB + (model_parameters(settings.model) or 0.0) * CHECKPOINT_BYTES / _GIBIBYTE
    if machine.disk_gb < wanted:
        yield f"needs {wanted:.0f} GB of disk for checkpoints, {machine.disk_gb:.0f} are free"


def _files(settings: VerlSettings, base: Path) -> Iterator[str]:
    missing = [path for path in files_named(settings) if not (base / path).exists()]
    if missing:
        yield f"no such {'file' if len(missing) == 1 else 'files'}: {', '.join(missing)}"


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
