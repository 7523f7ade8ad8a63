"""Generated code runs behind a wall of the kernel's, in a child process, or not at all."""

from poise_git.pipeline.sandbox.allowance import Allowance, Limits
from poise_git.pipeline.sandbox.failures import Cancelled, ChildFailed, IsolationMissing
from poise_git.pipeline.sandbox.layers import Layer, missing
from poise_git.pipeline.sandbox.sandbox import Completed, Sandbox, isolation, missing_layers

__all__ = [
    "Allowance",
    "Cancelled",
    "ChildFailed",
    "Completed",
    "IsolationMissing",
    "Layer",
    "Limits",
    "Sandbox",
    "isolation",
    "missing",
    "missing_layers",
]
