from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from poise_git.cli.common import directory, json_option, print_json
from poise_git.cli.output import echo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from poise_git.pipeline.equipment import Equipment


@click.command(name="gpu-check", epilog="Example: poise-git gpu-check --json")
@json_option
def command(as_json: bool) -> None:
    """Show which protocols this machine can run.

    List devices, packages, the sandbox, and the protocols of the archive, or the shipped ones outside an archive.
    """
    from dataclasses import asdict

    from poise_git.experiment import protocol_file
    from poise_git.pipeline.backends.verl.versions import EXTRAS, found_versions, install_command
    from poise_git.pipeline.equipment import inspect_equipment
    from poise_git.pipeline.sandbox import isolation

    place = directory()
    machine, layers = inspect_equipment(place), isolation()
    packages = {device: found_versions(device) for device in EXTRAS}
    found = {
        name: _obstacles(text, protocol_file(name), machine, Path.cwd()) for name, text in _protocol_texts().items()
    }
    if as_json:
        print_json(
            {
                "machine": machine.to_data(),
                "packages": {
                    EXTRAS[device]: [asdict(entry) | {"fits": entry.fits} for entry in entries]
                    for device, entries in packages.items()
                },
                "sandbox": [asdict(layer) for layer in layers],
                "protocols": {name: {"runs": not reasons, "obstacles": reasons} for name, reasons in found.items()},
            }
        )
        return
    _print_machine(machine)
    for device, entries in packages.items():
        lacking = [
            f"{entry.package} is {entry.installed or 'missing'}, needs {entry.needed}"
            for entry in entries
            if not entry.fits
        ]
        state = f"{'; '.join(lacking)}: {install_command(device)}" if lacking else "all installed"
        echo(f"packages  {EXTRAS[device]:<10} {state}")
    down = [layer.name for layer in layers if not layer.up]
    echo("sandbox   " + (f"DOWN: {', '.join(down)} (poise-git doctor says why)" if down else "every layer is up"))
    _print_protocols(found)


def _print_machine(machine: Equipment) -> None:
    counted: dict[str, int] = {}
    for gpu in machine.gpus:
        label = f"{gpu.name} ({gpu.memory_gb:.0f} GB)"
        counted[label] = counted.get(label, 0) + 1
    echo("gpus      " + (", ".join(f"{count} x {label}" for label, count in counted.items()) or "none"))
    echo(
        f"machine   {machine.cores} cores, {machine.memory_gb:.0f} GB of memory, {machine.disk_gb:.0f} GB of disk free"
    )


def _print_protocols(found: Mapping[str, tuple[str, ...]]) -> None:
    width = max(map(len, found), default=0)
    for name, reasons in found.items():
        echo(f"protocol  {name:<{width}}  " + ("cannot run here: " + "; ".join(reasons) if reasons else "runs here"))


def _obstacles(text: str, file: str, machine: Equipment, base: Path) -> tuple[str, ...]:
    """The obstacles to a protocol. An invalid protocol cannot run."""
    from poise_git.errors import PoiseError
    from poise_git.pipeline.backends import backend_named
    from poise_git.pipeline.protocol import load_protocol

    try:
        protocol = load_protocol(text, file)
        return backend_named(protocol.backend).obstacles(protocol, file, machine, base)
    except PoiseError as error:
        return (str(error),)


def _protocol_texts() -> dict[str, str]:
    """The protocol files by name: the archive's, as committed on its main branch, or, outside one, the shipped ones."""
    from poise_git.archive import Archive
    from poise_git.errors import NotAnArchive
    from poise_git.experiment import BRANCH
    from poise_git.package_data import template_files

    try:
        files = Archive.open(directory()).list_texts(BRANCH, "protocols")
    except NotAnArchive:
        prefix = "protocols/"
        files = {path.removeprefix(prefix): text for path, text in template_files().items() if path.startswith(prefix)}
    return {path.removesuffix(".yaml"): text for path, text in sorted(files.items()) if path.endswith(".yaml")}
