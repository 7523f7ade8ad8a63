"""A verl platform for machines without an accelerator, which verl 0.9.1 lacks.

`VERL_USE_EXTERNAL_MODULES` loads it in every process, and `VERL_PLATFORM=cpu` chooses it. The FSDP engine is registered
for accelerators only; `VERL_ENGINE_DEVICE=cuda` makes it serve this platform too.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
import torch.distributed.fsdp
from verl.plugin.platform import PlatformBase, PlatformRegistry


def _nothing(*arguments: Any, **named: Any) -> int:
    return 0


# verl compares the device module with torch.cpu itself, so torch.cpu gets the functions that verl calls on torch.cuda.
_LACKING: dict[str, Any] = {
    **dict.fromkeys(("empty_cache", "ipc_collect", "reset_peak_memory_stats"), _nothing),
    **dict.fromkeys(("memory_allocated", "memory_reserved"), _nothing),
    **dict.fromkeys(("max_memory_allocated", "max_memory_reserved"), _nothing),
    "manual_seed": torch.manual_seed,
    "manual_seed_all": torch.manual_seed,
    "get_rng_state": torch.get_rng_state,
    "set_rng_state": torch.set_rng_state,
    "get_device_name": lambda *_: "CPU",
    "mem_get_info": lambda *_: (0, 0),
}


def _complete_torch_cpu() -> None:
    for name, function in _LACKING.items():
        if not hasattr(torch.cpu, name):
            setattr(torch.cpu, name, function)


def _accept_one_backend_named_twice() -> None:
    """Drop the repeated key that torch refuses: verl asks for "cpu:gloo,<device>:<backend>", also on the CPU."""
    original = torch.distributed.init_process_group

    @functools.wraps(original)
    def init_process_group(backend: str | None = None, *arguments: Any, **named: Any) -> None:
        if backend:
            backend = ",".join(dict.fromkeys(backend.split(",")))
        original(backend, *arguments, **named)

    torch.distributed.init_process_group = init_process_group


def _keep_parameters_where_they_are() -> None:
    """Replace the CPU offload, because it asks for pinned memory, which torch lacks without an accelerator."""
    torch.distributed.fsdp.CPUOffloadPolicy = (  # type: ignore[misc]
        lambda *_, **__: torch.distributed.fsdp.OffloadPolicy()  # type: ignore[assignment]
    )


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):  # type: ignore[misc]
    device_name = "cpu"
    vendor_name = "cpu"
    device_module = torch.cpu

    def is_available(self) -> bool:
        return True

    def current_device(self) -> torch.device:
        return torch.device("cpu")

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        return

    def synchronize(self, device_index: int | None = None) -> None:
        return

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        return

    def empty_cache(self) -> None:
        return

    def get_device_capability(self, device_index: int | None = None) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextlib.contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        return

    def profiler_stop(self) -> None:
        return

    def ray_resource_name(self) -> str:
        # Placement groups require a GPU, so the configuration makes Ray count one that does not exist.
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        # Weights go to the sampler through /dev/shm.
        return False

    def cudart(self) -> None:
        return


_complete_torch_cpu()
_accept_one_backend_named_twice()
_keep_parameters_where_they_are()
