"""Every check before training, cheapest first, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from poise_git.errors import CheckFailed

Subject = TypeVar("Subject")
# The check that passes when a candidate's process has loaded the recipe.
IMPORT = "import"
# A check returns the problem in words for the author of the code, or None.
CheckFunction = Callable[[Subject], str | None]


@dataclass(frozen=True)
class Check:
    """`what` completes the sentence: it is checked that ..."""

    name: str
    group: Literal["static", "numeric", "claims"]
    what: str


CHECKS: tuple[Check, ...] = (
    Check(
        "files", "static", "rollouts.py is a version that we ship, and nothing but algorithm.py differs from the parent"
    ),
    Check("size", "static", "the file is no larger than a few hundred lines"),
    Check("text", "static", "the text is what it looks like: UTF-8, no control or invisible character, no coding"),
    Check("parse", "static", "the file is Python, of ordinary depth and length"),
    Check(
        "imports", "static", "only torch, math, typing, collections.abc and .rollouts are imported, by allowed names"
    ),
    Check("module-level", "static", "the module consists of imports, functions, and constants that cannot change"),
    Check("entry-points", "static", "compute_advantages and policy_loss exist with verl's parameters"),
    Check("syntax", "static", "functions, branches, loops and expressions are all there is: no class, try or global"),
    Check("names", "static", "every name is defined in the file or an allowed builtin"),
    Check("attributes", "static", "only tensor functions and the fields of rollouts stand behind a dot; none is set"),
    Check("import", "numeric", "the module can be imported"),
    Check(
        "advantage-shape", "numeric", "advantages and returns are (N, T) tensors of the rewards' type, without gradient"
    ),
    Check("advantage-finite", "numeric", "advantages are finite, for groups without contrast or with one member too"),
    Check("advantage-padding", "numeric", "advantages are exactly 0 on padding"),
    Check("loss-scalar", "numeric", "the loss is one differentiable number, the metrics are a mapping to floats"),
    Check("loss-finite", "numeric", "loss and gradient are finite, at extreme probability ratios too"),
    Check("gradient", "numeric", "the gradient of a batch with contrast is not zero"),
    Check("gradient-padding", "numeric", "the gradient is exactly 0 on padding"),
    Check("inputs-unchanged", "numeric", "no input is changed in place"),
    Check("deterministic", "numeric", "the same input gives the same numbers"),
    Check("memory", "numeric", "calls give the same numbers alone in a fresh process as after many others"),
    Check("padding-invariance", "numeric", "more padding changes neither advantages nor loss"),
    Check("order-invariance", "numeric", "the order of the responses changes neither advantages nor loss"),
    Check("relabelling", "numeric", "prompt identifiers of another type, or other ones, change nothing"),
    Check("verl-types", "numeric", "masks, configs and rollout weights of the types that verl hands over are accepted"),
    Check("dtype", "numeric", "outputs have the inputs' types of floats, bfloat16 and float64 too, and lose no digits"),
    Check("device", "numeric", "outputs lie on the inputs' device, and new tensors are made there"),
    Check("micro-batches", "numeric", "losses and gradients of micro-batches add up to those of the whole batch"),
    Check(
        "amplification", "numeric", "advantages and gradients stay bounded where only rounding tells responses apart"
    ),
    Check("claim", "claims", "no claim of the proposal about its code is refuted"),
)


def ordered(
    group: str, functions: Mapping[str, CheckFunction[Subject]]
) -> tuple[tuple[str, CheckFunction[Subject]], ...]:
    """The functions of a group in the registry's order; the import has none of its own."""
    names = [check.name for check in CHECKS if check.group == group and check.name != IMPORT]
    return tuple((name, functions[name]) for name in names)


def fail(check: str, reason: str | None) -> None:
    """Raises CheckFailed if there is a reason."""
    if reason is not None:
        raise CheckFailed(check, reason)
