from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import yaml

from poise_git.package_data import template_files
from poise_git.pipeline.protocol import Protocol, load_protocol


def require_verl() -> None:
    """Skip where verl is not installed; a verl that is installed and does not import is a failure."""
    if importlib.util.find_spec("verl") is None:
        pytest.skip("pip install 'poise-git[verl-cpu]'")


SHIPPED = ("cpu-smoke", "one-gpu", "paper")


def shipped(name: str) -> Protocol:
    return load_protocol(template_files()[f"protocols/{name}.yaml"], f"protocols/{name}.yaml")


def changed(protocol: Protocol, path: str, value: Any) -> Protocol:
    """The protocol with one field, `path` with dots, set to `value`."""
    data = yaml.safe_load(yaml.safe_dump(protocol.model_dump(mode="json")))
    *parents, last = path.split(".")
    place = data
    for part in parents:
        place = place.setdefault(part, {})
    place[last] = value
    return Protocol.model_validate(data)


@pytest.fixture(params=SHIPPED)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    return shipped(request.param)
