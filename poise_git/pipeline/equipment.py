"""The equipment of this machine: devices, cores, memory, disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_GIBIBYTE = 1 << 30
_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
_SECONDS = 20


@dataclass(frozen=True)
class Gpu:
    name: str
    memory_gb: float


@dataclass(frozen=True)
class Equipment:
    """Sizes in GiB. `memory_gb` is that of the machine or the container, whichever is less; `disk_gb` is free."""

    gpus: tuple[Gpu, ...]
    cores: int
    memory_gb: float
    disk_gb: float

    def to_data(self) -> dict[str, Any]:
        return asdict(self)


def inspect_equipment(folder: Path) -> Equipment:
    """This machine, with the free disk space of `folder`."""
    return Equipment(_gpus(), len(os.sched_getaffinity(0)), _memory(), shutil.disk_usage(folder).free / _GIBIBYTE)


def gpu_devices() -> tuple[Path, ...]:
    """The device nodes of all NVIDIA GPUs of this machine."""
    return tuple(sorted(Path("/dev").glob("nvidia*")))


def _gpus() -> tuple[Gpu, ...]:
    """The GPUs that nvidia-smi lists, or else torch (it also sees devices that a container passes on)."""
    try:
        done = subprocess.run(_NVIDIA_SMI, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return _gpus_of_torch()
    return parse_nvidia_smi(done.stdout)


def parse_nvidia_smi(text: str) -> tuple[Gpu, ...]:
    """Parse lines of "name, MiB"; a device without a number has 0."""
    gpus = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, mebibytes = line.rpartition(",")
        size = mebibytes.strip()
        gpus.append(Gpu(name.strip(), float(size) / 1024 if size.isdecimal() else 0.0))
    return tuple(gpus)


def _gpus_of_torch() -> tuple[Gpu, ...]:
    import torch

    if not torch.cuda.is_available():
        return ()
    found = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
    return tuple(Gpu(device.name, device.total_memory / _GIBIBYTE) for device in found)


def _memory() -> float:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            total = min(total, int(file.read_text()))
        except (OSError, ValueError):
            continue
    return total / _GIBIBYTE
