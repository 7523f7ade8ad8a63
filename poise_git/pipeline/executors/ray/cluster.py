"""Join a Ray cluster, or start one on this machine."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from poise_git.errors import UsageError
from poise_git.pipeline.executors.machine import Machine
from poise_git.pipeline.executors.ray.orders import in_one_line
from poise_git.pipeline.interface import Resources

NAMESPACE = "poise-git"
# Seconds to wait for a cluster's address to answer.
_PATIENCE = 10.0
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Without this, Ray's newer policy ends the newest task first, and it counts a board's call for news as one.
    "RAY_worker_killing_policy_by_group": "true",
}


@dataclass(frozen=True)
class Cluster:
    """The resources of a cluster's machines, one entry each, and whether the cluster ends with this process."""

    machines: tuple[Resources, ...]
    own: bool

    def require(self, claim: Resources) -> None:
        """Raise UsageError if no machine of the cluster could ever hold a run."""
        if not any(machine.cpus >= claim.cpus and machine.gpus >= claim.gpus for machine in self.machines):
            best = max(self.machines, key=lambda machine: (machine.gpus, machine.cpus), default=Resources(0.0))
            raise UsageError(
                f"a run of this protocol needs {claim.cpus:g} cores and {claim.gpus} GPUs on one machine, and the "
                f"cluster's largest has {best.cpus:g} and {best.gpus}; add a machine "
                "(`ray status`) or use another --protocol"
            )

    @property
    def cores(self) -> int:
        return max(1, int(sum(machine.cpus for machine in self.machines)))


@contextmanager
def join_cluster(address: str | None, gpus: Sequence[int] | None = None) -> Iterator[Cluster]:
    """Connect to the cluster at `address` (HOST:PORT, auto), or start one; leave it, or end it, with the block.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError("the Ray executor needs Ray: pip install 'poise-git[verl]'") from error
    quiet = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address is None:
        machine = Machine.here(gpus)
        if gpus is not None:
            # Ray counts devices and takes their indices from this variable.
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
        ray.init("local", num_cpus=machine.cores, num_gpus=len(machine.gpus), include_dashboard=False, **quiet)
    else:
        try:
            # Test the address first, because Ray itself tries a dead address for minutes.
            host, _, port = address.rpartition(":")
            if port.isdecimal():
                socket.create_connection((host, int(port)), _PATIENCE).close()
            ray.init(address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"no Ray cluster at {address}: {in_one_line(error)}; start one with `ray start --head`, "
                "or, if it asks for a token, run: export RAY_AUTH_MODE=token"
            ) from error
    try:
        alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
        machines = tuple(Resources(node.get("CPU", 0.0), int(node.get("GPU", 0))) for node in alive)
        yield Cluster(machines, own=address is None)
    finally:
        ray.shutdown()
