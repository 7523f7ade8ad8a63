"""Measurements on the batches of the checks that several kinds of claim share."""

from __future__ import annotations

import torch
from torch import Tensor

from poise_git.pipeline.checks import batches
from poise_git.pipeline.checks.batches import Batch

_SEEDS = range(5)


def mixed_batches() -> list[Batch]:
    """Batches whose groups hold all levels of reward."""
    return [batches.mixed(seed) for seed in _SEEDS]


def largest(values: Tensor) -> float:
    """The largest magnitude; NaN counts as infinite."""
    return float(values.abs().nan_to_num(nan=torch.inf, posinf=torch.inf).max())
