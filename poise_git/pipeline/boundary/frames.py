"""Frames between the trusted side and a candidate's process: a JSON header and tensors, on a stream socket.

    4 bytes: length of the header │ header: [content, [[dtype, shape], ...]] │ the tensors' bytes, one after the other,
    each filled up to a multiple of 8

A frame is not trusted: a reader sets the largest size and the deadline.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.bool)
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# Answers are numbers, because only two of the 256 values of a byte are valid bools.
ANSWERED = frozenset(("float64", "float32", "bfloat16", "float16", "int64", "int32"))
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_LENGTH = struct.Struct(">I")
# The size of the largest element, so that every tensor is aligned for its type.
_UNIT = 8
_FILL = memoryview(bytes(_UNIT))
_HEADER_LIMIT = 1 << 16
_MOST_DIMENSIONS = 8
_MOST_TENSORS = 8
# This also limits the shapes of tensors without elements, so that torch can compute their strides.
_MOST_ELEMENTS = 1 << 40


class FrameRefused(Exception):
    """The data is not a frame, or exceeds the limit; the message completes "sent ..."."""


class Closed(Exception):
    """The other side is gone."""


class TooLate(Exception):
    """The other side did not answer in time."""


@dataclass(frozen=True)
class Frame:
    content: Mapping[str, Any]
    tensors: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class _Kind:
    """One tensor of a frame: type, shape, number of elements, bytes, and bytes with padding."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    count: int
    size: int
    filled: int

    @classmethod
    def of(cls, described: object, dtypes: frozenset[str] | None) -> _Kind:
        """Raises FrameRefused."""
        match described:
            case [str(name), list(shape)] if name in DTYPES and len(shape) <= _MOST_DIMENSIONS:
                if all(type(size) is int and size >= 0 for size in shape):
                    return _kind(name, tuple(shape), dtypes)
        raise FrameRefused("a tensor of unknown type and shape")

    def tensor(self, data: np.ndarray[Any, Any], offset: int) -> Tensor:
        if not self.count:
            return torch.empty(self.shape, dtype=self.dtype, device="cpu")
        return torch.frombuffer(data, dtype=self.dtype, count=self.count, offset=offset).view(self.shape)


# A run sends the same few kinds of tensors about two thousand times.
@lru_cache(maxsize=256)
def _kind(name: str, shape: tuple[int, ...], dtypes: frozenset[str] | None) -> _Kind:
    if dtypes is not None and name not in dtypes:
        raise FrameRefused(f"a tensor of type {name}")
    if math.prod(max(size, 1) for size in shape) > _MOST_ELEMENTS:
        raise FrameRefused("a tensor of too many elements")
    dtype, count = DTYPES[name], math.prod(shape)
    size = dtype.itemsize * count
    return _Kind(dtype, shape, count, size, size + -size % _UNIT)


def send(
    connection: socket.socket,
    content: Mapping[str, Any],
    tensors: Sequence[Tensor] = (),
    deadline: float | None = None,
) -> None:
    """Write one frame; blocks until the other side has read most of it, or until `deadline` (time.monotonic).

    Raises:
        Closed: the other side is gone.
        TooLate: it did not read in time.
    """
    sent = [plain(tensor) for tensor in tensors]
    shapes = [[_NAMES[tensor.dtype], tensor.shape] for tensor in sent]
    header = _ENCODER.encode([content, shapes]).encode()
    parts = [memoryview(_LENGTH.pack(len(header)) + header)]
    for tensor in sent:
        if size := tensor.nbytes:
            parts.append(bytes_of(tensor))
            if size % _UNIT:
                parts.append(_FILL[: -size % _UNIT])
    try:
        while parts:
            _wait_at_most(connection, deadline)
            count = connection.sendmsg(parts)
            while parts and count >= len(parts[0]):
                count -= len(parts.pop(0))
            if count:
                parts[0] = parts[0][count:]
    except TimeoutError as error:
        raise TooLate from error
    except OSError as error:
        raise Closed from error


def receive(
    connection: socket.socket,
    limit: int | None = None,
    deadline: float | None = None,
    dtypes: frozenset[str] | None = None,
) -> Frame:
    """Read one frame with at most `limit` bytes of tensors, of the named dtypes, until `deadline` (time.monotonic).

    For data from the trusted side there are no limits.

    Raises:
        FrameRefused, Closed, TooLate.
    """
    (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size, deadline))
    if limit is not None and length > _HEADER_LIMIT:
        raise FrameRefused(f"a header of {length} bytes")
    content, described_tensors = _header(bytes(_read(connection, length, deadline)))
    kinds = [_Kind.of(described, dtypes) for described in described_tensors]
    total = sum(kind.filled for kind in kinds)
    if limit is not None and total > limit:
        raise FrameRefused(f"{sum(kind.size for kind in kinds)} bytes of tensors; the limit is {limit}")
    # Read all tensors at once, because reading small ones one by one would cost more than the call itself.
    data = np.empty(total, dtype=np.uint8)
    _read_into(connection, data.data, deadline)
    offset, tensors = 0, []
    for kind in kinds:
        tensors.append(kind.tensor(data, offset))
        offset += kind.filled
    return Frame(content, tuple(tensors))


def plain(tensor: Tensor) -> Tensor:
    """The tensor in a form that can be sent: its numbers alone, in order, on the CPU.

    Raises:
        ValueError: its type cannot be sent.
        RuntimeError: it has no numbers in order.
    """
    if tensor.dtype not in _NAMES:
        raise ValueError(f"a tensor of type {tensor.dtype} cannot be sent")
    if type(tensor) is Tensor and tensor.is_cpu and tensor.is_contiguous() and not tensor.requires_grad:
        return tensor.resolve_neg()
    return tensor.detach().cpu().contiguous().resolve_neg()


def bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a tensor as `plain` returns it."""
    # NumPy has no bfloat16, and memoryview does not accept empty arrays.
    known = tensor.view(torch.int16) if tensor.dtype is torch.bfloat16 else tensor
    return known.numpy().data.cast("B") if tensor.nbytes else memoryview(b"")


def _header(data: bytes) -> tuple[Mapping[str, Any], list[Any]]:
    try:
        content, kinds = json.loads(data)
    except (ValueError, TypeError, RecursionError) as error:
        raise FrameRefused("something that is not a frame") from error
    if not isinstance(content, dict) or not isinstance(kinds, list) or len(kinds) > _MOST_TENSORS:
        raise FrameRefused("something that is not a frame")
    return content, kinds


def _read(connection: socket.socket, count: int, deadline: float | None) -> bytearray:
    data = bytearray(count)
    _read_into(connection, memoryview(data), deadline)
    return data


def _read_into(connection: socket.socket, view: memoryview, deadline: float | None) -> None:
    try:
        while view:
            _wait_at_most(connection, deadline)
            count = connection.recv_into(view)
            if count == 0:
                raise Closed
            view = view[count:]
    except TimeoutError as error:
        raise TooLate from error
    except OSError as error:
        raise Closed from error


def _wait_at_most(connection: socket.socket, deadline: float | None) -> None:
    if deadline is None:
        return
    left = deadline - time.monotonic()
    if left <= 0:
        raise TooLate
    connection.settimeout(left)
