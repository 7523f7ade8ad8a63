"""The device that a child process computes on."""

from __future__ import annotations

import torch


def compute_on(name: str) -> None:
    """Have torch make tensors on the device of this name, where it is not told another."""
    # Torch leads each of its calls through Python as soon as a default device is set, even the CPU.
    if name != "cpu":
        torch.set_default_device(name)
