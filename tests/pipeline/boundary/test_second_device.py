"""The second device refuses what CUDA refuses, allows what it allows, and computes the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from poise_git.pipeline.boundary.second_device import DeviceMismatch, on_second_device

X = torch.arange(6.0).view(2, 3)
CONSTANT = torch.ones(3)


def _put(x: Tensor, value: Tensor) -> Tensor:
    out = x.clone()
    out[out > 2] = value
    return out


def _buffer(x: Tensor) -> Tensor:
    out = torch.zeros(2, 3)
    out[0] = x[0]
    return out


@pytest.mark.parametrize(
    ("function", "culprit"),
    [
        (lambda x: x * torch.ones(3), "torch.ones made without"),
        (lambda x: x + torch.arange(3).float() / 2, "torch.arange made without"),
        (lambda x: torch.linspace(0, 1, 3) @ x.T, "torch.linspace made without"),
        (lambda x: torch.where(x > 2, x, torch.zeros(3)), "torch.zeros made without"),
        (lambda x: x.clone().add_(torch.rand(3)), "torch.rand made without"),
        (lambda x: torch.add(x, x, out=torch.empty(2, 3)), "torch.empty made without"),
        (lambda x: x + torch.tensor(x[0].tolist()), "torch.tensor made without"),
        (lambda x: torch.stack([x.sum(), torch.tensor(2.0)]), "torch.tensor made without"),
        (lambda x: torch.zeros(4)[x.long()[0]], "torch.zeros made without"),
        (lambda x: _put(x, torch.ones(3)), "torch.ones made without"),
        (lambda x: torch.equal(x, torch.ones(2, 3)), "torch.ones made without"),
        (lambda x: x + x.cpu(), "moved to the CPU"),
        (lambda x: x.to("cpu") * x, "moved to the CPU"),
        (lambda x: x + CONSTANT, "not made from the arguments"),
        (_buffer, "comes out"),
    ],
)
def test_mixing_devices_is_refused(function: Callable[[Tensor], Any], culprit: str) -> None:
    with pytest.raises(DeviceMismatch) as failure:
        on_second_device(function, X)
    assert culprit in str(failure.value)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + torch.tensor(2.0),
        lambda x: x * int(x.max()) + float(x.sum()) + sum(x[0].tolist()) + x[1, 1].item(),
        lambda x: x + torch.tensor(x[0].tolist(), device=x.device),
        lambda x: x + torch.zeros(3, device=x.device) + x.new_tensor([1.0, 2.0, 3.0]) + torch.full_like(x, 2),
        lambda x: x + torch.ones(3).to(x) + torch.ones(3).to(x.device) + x.cpu().to(x.device),
        lambda x: x[torch.tensor([1])] + x[:, torch.tensor([2])],
        lambda x: torch.where(x > 2, x, torch.zeros(())),
        lambda x: torch.stack([row.cumsum(0) for row in x]).sort(descending=True).values,
        lambda x: torch.zeros(2, device=x.device).index_add(0, torch.tensor([1, 0], device=x.device), x.sum(1)),
        lambda x: torch.unique(x, return_inverse=True)[1],
        lambda x: x.to(torch.float64) + x.double(),
    ],
)
def test_computation_on_the_device_gives_the_same_numbers(function: Callable[[Tensor], Tensor]) -> None:
    assert torch.equal(on_second_device(function, X), function(X))


def test_a_tensor_reports_its_device() -> None:
    def told(x: Tensor) -> tuple[Any, ...]:
        return x.device.type, x.is_cuda, x.T.device.type, x.cpu().device.type, torch.zeros(1).device.type

    assert on_second_device(told, X) == ("cuda", True, "cuda", "cpu", "cpu")


def test_gradients_and_hooks_work_inside() -> None:
    def hooked(x: Tensor) -> Tensor:
        y = x**2
        y.register_hook(lambda gradient: 3.0 * gradient)
        return torch.autograd.grad(y.sum(), x)[0] * x

    assert torch.equal(on_second_device(hooked, X.clone().requires_grad_()), 6.0 * X**2)


def test_inputs_are_not_modified() -> None:
    given = X.clone()
    on_second_device(lambda x: x.zero_(), given)
    assert torch.equal(given, X)
    assert given.device.type == "cpu"
