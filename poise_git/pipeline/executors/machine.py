"""The resources of this machine, and the number of jobs of a kind that it can run at once."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from poise_git.errors import UsageError
from poise_git.pipeline.interface import Resources

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_DEVICE = re.compile(r"nvidia\d+")


@dataclass(frozen=True)
class Machine:
    """`gpus` are the indices of the devices that jobs may use."""

    cores: int
    gpus: tuple[int, ...] = ()

    @classmethod
    def here(cls, gpus: Sequence[int] | None = None) -> Machine:
        """This machine: the cores that this process may use, and `gpus`, or all visible ones."""
        return cls(available_cores(), visible_gpus() if gpus is None else tuple(gpus))

    def slots(self, claim: Resources, cap: int | None = None) -> int:
        """The number of jobs with this claim that can run at once, at most `cap`.

        Raises:
            UsageError: the machine cannot run a single job.
        """
        if claim.gpus > len(self.gpus):
            raise UsageError(
                f"a run of this protocol needs {claim.gpus} GPUs on one machine, and {len(self.gpus)} are available; "
                "name them in poise.yaml (executor.gpus), use a cluster (executor.kind: ray) or another --protocol"
            )
        if claim.cpus > self.cores:
            raise UsageError(
                f"a run of this protocol needs {claim.cpus:g} cores and this machine has {self.cores}; "
                "use a cluster (executor.kind: ray) or another --protocol"
            )
        by_cores = int(self.cores / claim.cpus) if claim.cpus else self.cores
        by_gpus = len(self.gpus) // claim.gpus if claim.gpus else by_cores
        return min(by_cores, by_gpus, cap or by_cores)


def available_cores() -> int:
    return len(os.sched_getaffinity(0))


def visible_gpus(devices: Path = Path("/dev")) -> tuple[int, ...]:
    """Indices of NVIDIA's devices: those that CUDA_VISIBLE_DEVICES names by number, or all that have a node.

    Devices that the variable names by UUID are numbered in its order.
    """
    visible = os.environ.get(_VISIBLE)
    if visible is None:
        # CUDA numbers visible devices from 0, independently of the names of a container's nodes.
        return tuple(range(sum(1 for node in devices.glob("nvidia*") if _DEVICE.fullmatch(node.name))))
    names = [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    return tuple(int(name) if name.isdecimal() else place for place, name in enumerate(names))
