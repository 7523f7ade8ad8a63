"""The user's choices on this machine, for every archive: isolation, devices, addresses and folders.

An archive may come from a stranger, so it cannot make these choices. It may ask for them in poise.yaml or a protocol.
poise-git grants a request only if the user has allowed it, by an option, a variable, or a line of git's configuration
outside the repository (`git config --global`). A repository's own configuration does not count, because a copied folder
includes it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

from poise_git.archive.command import users_configuration
from poise_git.errors import UsageError
from poise_git.user.choices import MISSING_LAYERS_KEY, MISSING_LAYERS_VARIABLE

MissingLayers = Literal["refuse", "allow"]
# The address for a Ray cluster of this machine, which `address: null` means.
OWN_CLUSTER = "local"
# Field -> the key in git's configuration and the variable that overrides it.
_NAMES = {
    "missing_layers": (MISSING_LAYERS_KEY, MISSING_LAYERS_VARIABLE),
    "base_urls": ("poise.baseUrl", "POISE_BASE_URL"),
    "devices": ("poise.device", "POISE_DEVICE"),
    "ray_addresses": ("poise.rayAddress", "POISE_RAY_ADDRESS"),
    "shared": ("poise.shared", "POISE_SHARED"),
    "recordings": ("poise.recordings", "POISE_RECORDINGS"),
    "data": ("poise.data", "POISE_DATA"),
}


@dataclass(frozen=True)
class Preferences:
    """The user's choices. Every field but the first is a list, because archives may ask for different resources.

    Attributes:
        missing_layers: the treatment of untrusted code if a layer of the sandbox is missing.
        base_urls: addresses of the Messages API, beside Anthropic's own, that may get the user's key.
        devices: devices, beside the CPU, that runs may use (`cuda`).
        ray_addresses: Ray clusters that runs may use; `local` is a cluster started on this machine.
        shared: folders that the machines of a cluster may use to pass weights.
        recordings: folders of recorded replies.
        data: files and folders that a protocol may name, in addition to `data/` in the current folder.
    """

    missing_layers: MissingLayers = "refuse"
    base_urls: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    ray_addresses: tuple[str, ...] = ()
    shared: tuple[Path, ...] = ()
    recordings: tuple[Path, ...] = ()
    data: tuple[Path, ...] = ()

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Preferences:
        """Read git's configuration of the user and of the system, and the variables that override it.

        Raises:
            UsageError: a value is invalid for its key.
            ArchiveError: git cannot read its configuration.
        """
        variables = os.environ if environment is None else environment
        configured = users_configuration(r"^poise\.")
        found: dict[str, tuple[tuple[str, str], ...]] = {}
        for field, (key, variable) in _NAMES.items():
            if value := variables.get(variable):
                found[field] = ((variable, value),)
            else:
                found[field] = tuple((key, value) for name, value in configured if name == key.lower())
        layers = found["missing_layers"][-1:]
        for where, value in layers:
            if value not in get_args(MissingLayers):
                raise UsageError(f"{where}: must be refuse or allow, not {value!r}")
        return cls(
            missing_layers=cast(MissingLayers, layers[0][1]) if layers else "refuse",
            base_urls=_texts(found["base_urls"]),
            devices=_texts(found["devices"]),
            ray_addresses=_texts(found["ray_addresses"]),
            shared=_folders(found["shared"]),
            recordings=_folders(found["recordings"]),
            data=_folders(found["data"]),
        )

    def with_options(
        self, *, device: str | None = None, executor: str | None = None, ray_address: str | None = None
    ) -> Preferences:
        """Add the choices of one command's options; an executor without an address runs on this machine."""
        address = ray_address or (OWN_CLUSTER if executor == "ray" else None)
        return replace(
            self,
            devices=(*self.devices, *([device] if device else [])),
            ray_addresses=(*self.ray_addresses, *([address] if address else [])),
        )


def unchosen(where: str, what: str, field: str, asked: str) -> UsageError:
    """The error for a request in `where` that the user has not allowed, with the command that allows it."""
    key, _ = _NAMES[field]
    return UsageError(
        f"{where}: asks for {what}, which only you may allow; to allow it: "
        f"git config --global --add {key} {shlex.quote(asked)}"
    )


def lies_in(path: Path, folders: Iterable[Path]) -> bool:
    """Whether `path`, with links resolved, is one of `folders` or inside one."""
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in folders)


def _texts(found: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(value for _, value in found)


def _folders(found: Sequence[tuple[str, str]]) -> tuple[Path, ...]:
    folders = []
    for where, value in found:
        folder = Path(value).expanduser()
        # A variable may be relative to the current folder. A configuration applies in every folder.
        if not folder.is_absolute() and where.startswith("poise."):
            raise UsageError(f"{where}: must be an absolute path, not {value!r}")
        folders.append(folder.absolute())
    return tuple(folders)
