"""The resources of a run: the limits of its processes, and its needs beyond Python and its scratch folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from poise_git.settings import SandboxSettings


@dataclass(frozen=True)
class Limits:
    """Limits of a run. None: no limit.

    Attributes:
        memory_mb: of all processes together, and the address space that each may add to its initial one.
        cpu_seconds: of each process.
        file_mb: of each file, and of the printed output.
        disk_mb: of all files that the run may write, together.
        files: their number, with folders.
        processes: the number of processes, including threads where the kernel counts them.
        open_files: of each process.
    """

    memory_mb: int | None = None
    cpu_seconds: int | None = None
    wall_seconds: int | None = None
    file_mb: int | None = None
    disk_mb: int | None = None
    files: int | None = None
    processes: int | None = None
    open_files: int = 256

    @classmethod
    def of(cls, settings: SandboxSettings) -> Self:
        return cls(
            memory_mb=settings.memory_mb,
            cpu_seconds=settings.cpu_seconds,
            wall_seconds=settings.wall_seconds,
            file_mb=settings.file_mb,
            disk_mb=settings.disk_mb,
            files=settings.files,
            processes=settings.processes,
        )

    def to_data(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Allowance:
    """The needs of frameworks such as Ray beyond a plain computation.

    Attributes:
        readable: visible files and folders besides Python, its packages and this package.
        writable: folders besides the scratch folder. As root, their content passes to the user nobody.
        devices: device nodes that it may read, write and control.
        services: for processes that talk to each other: a network of its own with nothing but the loopback
            interface, and a /tmp and a /dev/shm of its own.
    """

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = ()
    services: bool = False

    def to_data(self) -> dict[str, Any]:
        def texts(paths: tuple[Path, ...]) -> list[str]:
            return [str(path.absolute()) for path in paths]

        return {
            "readable": texts(self.readable),
            "writable": texts(self.writable),
            "devices": texts(self.devices),
            "services": self.services,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            readable=tuple(map(Path, data["readable"])),
            writable=tuple(map(Path, data["writable"])),
            devices=tuple(map(Path, data["devices"])),
            services=bool(data["services"]),
        )
