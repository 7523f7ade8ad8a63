"""Create a new archive from the recipe template."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from poise_git.archive import Archive
from poise_git.errors import UsageError
from poise_git.experiment import SETTINGS_FILE
from poise_git.package_data import hook_files, template_files
from poise_git.pipeline.backends import DEFAULT_BACKEND, backend_named
from poise_git.pipeline.protocol import Protocol, load_protocol
from poise_git.untrusted.yaml_editor import with_fields


def create_archive(
    directory: Path,
    *,
    backend: str | None = None,
    protocol: str | None = None,
    device: str | None = None,
    directive: str = "",
) -> Archive:
    """Render the template into `directory` and commit it; `poise.yaml` names the protocol.

    Args:
        directory: does not exist, or is empty.
        backend: None is the protocol's, or the testbed where that is None too.
        protocol: of the template, by name; None is the backend's default.
        device: what the testbed's protocols train on; None leaves them as the template has them.
        directive: what to look for, in words.

    Raises:
        UsageError: the template has no such protocol, or it runs on another backend, or its file names no device.
        ArchiveError: the directory is not empty, or holds a repository that is no archive.
    """
    files, protocols = template_files(), template_protocols()
    chosen = {"protocol": _choose(protocols, backend, protocol), "directive": directive}
    if device is not None:
        _device_of(protocols[chosen["protocol"]])
        for name, found in protocols.items():
            if "device" in found.settings:
                path = f"protocols/{name}.yaml"
                files[path] = with_fields(files[path], {("settings", "device"): device})
    files[SETTINGS_FILE] = with_fields(files[SETTINGS_FILE], {(name,): value for name, value in chosen.items()})
    return Archive.create(directory, files, hook_files())


def template_protocols() -> dict[str, Protocol]:
    """The protocols of a new archive, by name."""
    loaded = (load_protocol(text, path) for path, text in template_files().items() if path.startswith("protocols/"))
    return {protocol.name: protocol for protocol in loaded}


def refuse_other_device(protocol: Protocol, device: str) -> None:
    """Refuse a device other than the protocol's. Devices round differently, so the file states it, not an option.

    Raises UsageError if the protocol's file names no device, or another than `device`.
    """
    own = _device_of(protocol)
    if device != own:
        raise UsageError(
            f"protocol {protocol.name} trains on {own}, not on {device}: change device: in "
            f"protocols/{protocol.name}.yaml and commit it, or create another archive with --device {device}"
        )


def _device_of(protocol: Protocol) -> str:
    device = protocol.settings.get("device")
    if device is None:
        raise UsageError(
            f"protocol {protocol.name} ({protocol.backend}) has no device setting, so --device does not apply"
        )
    return str(device)


def _choose(protocols: Mapping[str, Protocol], backend: str | None, protocol: str | None) -> str:
    if protocol is None:
        return backend_named(backend or DEFAULT_BACKEND).default_protocol
    if protocol not in protocols:
        raise UsageError(f"no protocol {protocol!r} in the template: choose one of {', '.join(sorted(protocols))}")
    if backend is not None and protocols[protocol].backend != backend:
        known = sorted(name for name, found in protocols.items() if found.backend == backend)
        raise UsageError(
            f"protocol {protocol} runs on {protocols[protocol].backend}, not on {backend}: choose {' or '.join(known)}"
        )
    return protocol
