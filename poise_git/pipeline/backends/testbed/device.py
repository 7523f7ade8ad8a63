"""The device that a child process computes on."""

from __future__ import annotations

import torch


def compute_on(name: str) -> None:
    """Make the device of this name torch's default for new tensors."""
    # With any default device, even the CPU, torch routes each of its calls through Python.
    if name != "cpu":
        torch.set_default_device(name)
