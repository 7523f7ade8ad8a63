"""Run code as if its tensors lay on an accelerator, on a machine that has none.

A tensor of the "accelerator" is an ordinary CPU tensor with a mark. A torch function mode intercepts every call of
torch and acts as CUDA does. The `device` of a marked tensor is `cuda:0`. A tensor made with that device or from marked
tensors is marked. A call that mixes marked tensors with others is refused. The data are real, so `item()`, `int()`,
`tolist()` and branches on them work, and autograd is torch's own.

torch's FakeTensorMode is not suitable: it has no data, so `int(group.max())` fails, and with propagation of real data
it needs the device itself (torch 2.13).

`torch.vmap` and hooks are not followed, because their tensors are made outside of Python.

This module imports torch only: it runs in the candidate's process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

DEVICE = torch.device("cuda", 0)
_CPU = torch.device("cpu")
_MARK = "_poise_on_second_device"
_ORIGIN = "_poise_made_by"

# Attributes that CUDA answers without touching the data.
_PROPERTIES: Mapping[str, Any] = {"device": DEVICE, "is_cuda": True, "is_cpu": False}
# Functions that read tensors of any device as lists of Python numbers.
_FROM_DATA = frozenset({"tensor", "as_tensor", "asarray", "new_tensor"})
# Functions that copy from one device to another.
_ACROSS = frozenset({"copy_", "type_as", "to"})
# Functions that return their argument itself if it is already on the right device.
_TRANSFERS = frozenset({"to", "cpu", "type_as", "as_tensor", "asarray"})
# The first call looks up all of torch's functions, which takes longer than a check. Do it at import, not in every
# process that is forked later.
resolve_name(torch.add)
# Functions that refuse even a single number of another device.
_STRICT = frozenset(
    {"cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack", "row_stack"}
)


class DeviceMismatch(RuntimeError):
    """The code mixes devices; the message names the function that made the CPU tensor."""


def on_second_device(function: Callable[..., Any], *tensors: Any) -> Any:
    """Call `function` with `tensors` moved to the second device; return its result on the CPU.

    Args:
        function: it may call `torch.autograd.grad` and `backward`.
        tensors: CPU tensors, which are not changed; requires_grad is kept. Other values are passed as they are.

    Returns:
        The result, with every tensor of it (in tuples, lists and mappings) copied to the CPU and detached.

    Raises:
        DeviceMismatch: `function` mixes tensors of both devices, or returns one of the CPU.
    """
    moved = [_moved(value) if isinstance(value, Tensor) else value for value in tensors]
    with _SecondDevice():
        result = function(*moved)
    for tensor in _tensors(result):
        if not _marked(tensor):
            raise DeviceMismatch(f"{DEVICE.type} tensors go in, but {_described(tensor)} comes out")
    return _mapped(result, lambda tensor: tensor.detach().clone())


class _SecondDevice(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        keywords = dict(kwargs or {})
        path = _path(func)
        name = path[-1]
        given = tuple(_tensors((args, keywords)))
        if name in ("__get__", "__set__"):
            return _property(func, path, args, keywords, given)
        if name in ("numpy", "__array__", "data_ptr") and given and _marked(given[0]):
            raise TypeError(f"{name}() of a {DEVICE.type} tensor does not work; call .cpu() first")
        if name == "get_device" and given and _marked(given[0]):
            return DEVICE.index
        if name == "cuda":
            return args[0] if _marked(args[0]) else _placed(args[0], True)
        _require_one_device(name, ".".join(path), args, given)
        asked, args, keywords = _without_device(args, keywords, name)
        result = func(*args, **keywords)
        marked = _result_marked(name, args, given, asked)
        kept = {id(tensor) for tensor in given}
        if isinstance(result, Tensor) and id(result) in kept and name in _TRANSFERS:
            return result if _marked(result) == marked else _placed(result, marked)
        origin = next((made for tensor in given if (made := getattr(tensor, _ORIGIN, None))), ".".join(path))
        for tensor in _tensors(result):
            # The result of an in-place operation keeps its device.
            if id(tensor) not in kept:
                setattr(tensor, _MARK, marked)
                setattr(tensor, _ORIGIN, None if marked else origin)
        return result


def _require_one_device(name: str, function: str, args: tuple[Any, ...], given: tuple[Tensor, ...]) -> None:
    """Raise DeviceMismatch if CUDA would refuse the arguments."""
    if name in _ACROSS or name in _FROM_DATA or not any(map(_marked, given)):
        return
    compared = given
    if name == "__getitem__" and _marked(args[0]):
        return  # An index may be on the CPU.
    if name == "__setitem__":
        # A slice accepts data from any device; a value assigned at indices does not.
        key = tuple(_tensors(args[1]))
        compared = (args[0], *_tensors(args[2]), *(() if _marked(args[0]) else key)) if key else ()
    if not any(map(_marked, compared)):
        return
    others = [tensor for tensor in compared if not _marked(tensor) and (tensor.dim() > 0 or name in _STRICT)]
    if others:
        raise DeviceMismatch(
            f"{function} gets a {DEVICE.type} tensor and {_described(others[0])}; on a GPU this fails. Make new "
            "tensors from the arguments, with torch.zeros_like(x) or x.new_zeros(n), or use device=x.device"
        )


def _result_marked(name: str, args: tuple[Any, ...], given: tuple[Tensor, ...], asked: torch.device | None) -> bool:
    """Whether the result of a call is on the second device."""
    if asked is not None:
        return asked.type == DEVICE.type
    if name == "cpu":
        return False
    if name in ("to", "type_as"):
        # The last tensor is the one to follow, or the tensor itself if only its type changes.
        return _marked(given[-1])
    if name in ("tensor", "as_tensor", "asarray"):
        # A tensor keeps its device. A list of tensors is read as numbers.
        return bool(args) and isinstance(args[0], Tensor) and _marked(args[0])
    if name in ("new_tensor", "copy_", "__getitem__"):
        return _marked(args[0])
    return any(map(_marked, given))


def _property(
    func: Callable[..., Any],
    path: list[str],
    args: tuple[Any, ...],
    keywords: dict[str, Any],
    given: tuple[Tensor, ...],
) -> Any:
    owner = given[0] if given else None
    if owner is not None and _marked(owner) and path[-1] == "__get__" and path[-2] in _PROPERTIES:
        return _PROPERTIES[path[-2]]
    result = func(*args, **keywords)
    for tensor in _tensors(result):
        if owner is not None and tensor is not owner and not hasattr(tensor, _MARK):
            setattr(tensor, _MARK, _marked(owner))
            setattr(tensor, _ORIGIN, getattr(owner, _ORIGIN, None))
    return result


def _without_device(
    args: tuple[Any, ...], keywords: dict[str, Any], name: str
) -> tuple[torch.device | None, tuple[Any, ...], dict[str, Any]]:
    """The device that a call asks for, if any, and its arguments with the CPU instead."""
    asked = None
    if keywords.get("device") is not None:
        asked = torch.device(keywords["device"])
        keywords = keywords | {"device": _CPU}
    if name == "to" and len(args) > 1 and isinstance(args[1], torch.device | str | int):
        asked = torch.device(args[1])
        args = (args[0], _CPU, *args[2:])
    return asked, args, keywords


def _path(func: Callable[..., Any]) -> list[str]:
    name = resolve_name(func) or f"{getattr(func, '__module__', None) or 'torch'}.{getattr(func, '__name__', func)}"
    return str(name).split(".")


def _described(tensor: Tensor) -> str:
    made_by = getattr(tensor, _ORIGIN, None)
    if made_by is None:
        return "a CPU tensor that is not made from the arguments (a constant, or torch.Tensor(...))"
    if made_by.split(".")[-1] in ("cpu", "to"):
        return f"a tensor that {made_by} moved to the CPU"
    return f"a CPU tensor that {made_by} made without device=..."


def _moved(tensor: Tensor) -> Tensor:
    return _placed(tensor.detach().clone(), True).requires_grad_(tensor.requires_grad)


def _placed(tensor: Tensor, marked: bool) -> Tensor:
    """The same data as a new tensor on the other device."""
    placed = tensor.clone()
    setattr(placed, _MARK, marked)
    setattr(placed, _ORIGIN, None if marked else "torch.Tensor.to")
    return placed


def _marked(value: Any) -> bool:
    return bool(getattr(value, _MARK, False))


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, function) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, function) for item in value]
    if isinstance(value, tuple):
        items = [_mapped(item, function) for item in value]
        # Some of torch's functions return named tuples, structseq objects among them, which take one sequence.
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value
