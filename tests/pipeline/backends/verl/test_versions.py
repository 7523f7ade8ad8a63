from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from poise_git.errors import UsageError
from poise_git.pipeline.backends.verl import versions
from poise_git.pipeline.backends.verl.versions import Found, check_versions, found_versions, install_command

PROJECT = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_extras_pin_the_versions_that_are_checked(device: str) -> None:
    pins = {
        re.split(r"[\[=<>]", requirement)[0]: requirement.partition("==")[2]
        for requirement in PROJECT["optional-dependencies"][versions.EXTRAS[device]]
    }
    needed = {found.package: found.needed for found in found_versions(device)}
    assert needed.items() <= pins.items()
    # Packages that are not checked are not pinned either: gguf only reads a format.
    assert {package for package, pin in pins.items() if pin} == set(needed)


@pytest.mark.parametrize(
    ("installed", "fits"),
    [("2.13.0", True), ("2.13.0+cpu", True), ("2.13.0.post1", False), ("2.9.1", False), (None, False)],
)
def test_a_local_build_is_not_another_version(installed: str | None, fits: bool) -> None:
    assert Found("torch", "2.13.0", installed).fits is fits


def test_one_line_states_the_error_and_the_next_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "VERSIONS", {"verl": "99.1", "no-such-package": "1.0"})
    monkeypatch.setattr(versions, "install_command", lambda device: f"pip install for {device}")
    with pytest.raises(UsageError) as caught:
        check_versions("cpu")
    message = str(caught.value)
    assert "\n" not in message
    assert "verl 99.1 is needed" in message
    assert "no-such-package 1.0 is needed, nothing is installed" in message
    assert message.endswith("pip install for cpu")


def test_the_next_command_names_the_extra_of_the_device() -> None:
    assert install_command("cpu") == "pip install torch==2.13.0 && pip install 'poise-git[verl-cpu]'"
    assert install_command("cuda").endswith("'poise-git[verl]'")
    assert set(versions.EXTRAS.values()) <= set(PROJECT["optional-dependencies"])


@pytest.mark.slow
def test_the_versions_of_this_environment_are_read() -> None:
    pytest.importorskip("verl", reason="needs the extra verl or verl-cpu")
    found = {entry.package: entry for entry in found_versions("cpu")}
    assert found["verl"].fits
    assert found["torch"].installed is not None
