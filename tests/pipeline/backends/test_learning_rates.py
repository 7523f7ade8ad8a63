"""Every shipped protocol can be tried at another learning rate."""

from __future__ import annotations

from typing import Any

import pytest

from poise_git.package_data import template_files
from poise_git.pipeline.backends import backend_named
from poise_git.pipeline.protocol import load_protocol

SHIPPED = sorted(name for name in template_files() if name.startswith("protocols/"))


def rates(settings: Any, path: str = "") -> dict[str, float]:
    """Every learning rate of training, by its place; those of warm starts and schedules are others."""
    found = {}
    for name, value in settings.items() if isinstance(settings, dict) else ():
        place = f"{path}.{name}"
        if place.endswith(".training.learning_rate"):
            found[place] = float(value)
        found |= rates(value, place)
    return found


@pytest.mark.parametrize("file", SHIPPED)
def test_every_rate_of_training_is_multiplied_and_nothing_else(file: str) -> None:
    protocol = load_protocol(template_files()[file], file)
    kind = backend_named(protocol.backend)
    halved = kind.at_learning_rate(protocol, 0.5)
    before = rates(protocol.settings)
    assert before
    assert rates(halved.settings) == {place: 0.5 * rate for place, rate in before.items()}
    assert halved.hash != protocol.hash
    assert kind.at_learning_rate(halved, 2.0) == protocol
