"""The sandbox: generated code runs in a child process behind the kernel's layers."""

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
