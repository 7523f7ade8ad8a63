"""Frames between the trusted side and a candidate's process: a JSON header and tensors, on a stream socket.

    12 bytes: lengths of header and body │ header: [content, [[dtype, shape], ...]] │ body: the tensors' bytes

The header and every tensor are padded to a multiple of 64 bytes, so that a frame is two reads and each tensor lies
where torch would have put it. Nothing of a frame is trusted: a reader says how much it takes at most, and the socket
how long it waits.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.bool)
}
# Bools have two valid bytes of 256, and answers are numbers.
ANSWERED = frozenset(("float64", "float32", "bfloat16", "float16", "int64", "int32"))
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_LENGTHS = struct.Struct(">IQ")
_HEADER_LIMIT = 1 << 16
_ALIGNMENT = 64
_PADDING = bytes(_ALIGNMENT)
# struct timeval of a 64-bit kernel.
_TIME = struct.Struct("@qq")
_MOST_DIMENSIONS = 8
_MOST_TENSORS = 8


class FrameRefused(Exception):
    """What arrived is not a frame, or more than the reader takes; the message completes "sent ..."."""


class Closed(Exception):
    """The other side is gone."""


class TooLate(Exception):
    """The other side did not answer in time."""


@dataclass(frozen=True)
class Frame:
    content: Mapping[str, Any]
    tensors: tuple[Tensor, ...] = ()


def wait_at_most(connection: socket.socket, seconds: float) -> None:
    """Let every read and write of `connection` fail after that time."""
    connection.settimeout(None)
    limit = _TIME.pack(int(seconds), int(seconds % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, limit)


def send(connection: socket.socket, content: Mapping[str, Any], tensors: Sequence[Tensor] = ()) -> None:
    """Write one frame; blocks until the other side has read most of it.

    Raises:
        Closed: the other side is gone.
        TooLate: it did not read in time.
    """
    kinds = [[str(tensor.dtype).removeprefix("torch."), list(tensor.shape)] for tensor in tensors]
    header = _ENCODER.encode([content, kinds]).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    body = list(_padded(map(_bytes_of, tensors)))
    parts = [memoryview(_LENGTHS.pack(len(header), sum(map(len, body))) + header), *body]
    try:
        while parts:
            sent = connection.sendmsg(parts)
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if sent:
                parts[0] = parts[0][sent:]
    except BlockingIOError as error:
        raise TooLate from error
    except OSError as error:
        raise Closed from error


def receive(connection: socket.socket, limit: int | None = None, dtypes: frozenset[str] | None = None) -> Frame:
    """Read one frame with at most `limit` bytes of tensors, of the named dtypes.

    Without limits for what the trusted side sends.

    Raises:
        FrameRefused: what arrives is not such a frame.
        Closed: the other side is gone.
        TooLate: it did not send in time.
    """
    lengths = bytearray(_LENGTHS.size)
    _read_into(connection, memoryview(lengths))
    in_header, in_body = _LENGTHS.unpack(lengths)
    if limit is not None and (in_header > _HEADER_LIMIT or in_body > limit):
        raise FrameRefused(f"{in_header + in_body} bytes, of which {limit} are taken")
    if in_header % _ALIGNMENT:
        raise FrameRefused("something that is not a frame")
    buffer = torch.empty(in_header + in_body, dtype=torch.uint8, device="cpu")
    view: memoryview = buffer.numpy().data
    _read_into(connection, view)
    content, kinds = _header(bytes(view[:in_header]))
    tensors, begin = [], in_header
    for dtype, shape in [_shape(kind, dtypes) for kind in kinds]:
        end = begin + dtype.itemsize * math.prod(shape)
        if end > len(buffer):
            raise FrameRefused("fewer bytes than its tensors have")
        tensors.append(buffer[begin:end].view(dtype).view(shape))
        begin = end + -end % _ALIGNMENT
    return Frame(content, tuple(tensors))


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _padded(parts: Iterator[memoryview]) -> Iterator[memoryview]:
    for part in parts:
        if len(part):
            yield part
        if missing := -len(part) % _ALIGNMENT:
            yield memoryview(_PADDING)[:missing]


def _header(data: bytes) -> tuple[Mapping[str, Any], list[Any]]:
    try:
        content, kinds = json.loads(data)
    except (ValueError, TypeError, RecursionError) as error:
        raise FrameRefused("something that is not a frame") from error
    if not isinstance(content, dict) or not isinstance(kinds, list) or len(kinds) > _MOST_TENSORS:
        raise FrameRefused("something that is not a frame")
    return content, kinds


def _shape(kind: object, dtypes: frozenset[str] | None) -> tuple[torch.dtype, tuple[int, ...]]:
    match kind:
        case [str(name), list(shape)] if name in DTYPES and len(shape) <= _MOST_DIMENSIONS:
            if dtypes is not None and name not in dtypes:
                raise FrameRefused(f"a tensor of type {name}")
            sizes = all(type(size) is int and 0 <= size < 1 << 32 for size in shape)
            # Strides are counted beyond a size of 0 too, in 64 bits.
            if sizes and math.prod(max(1, size) for size in shape) < 1 << 62:
                return DTYPES[name], tuple(shape)
    raise FrameRefused("a tensor of no known type and shape")


def _read_into(connection: socket.socket, view: memoryview) -> None:
    if not len(view):
        return
    try:
        count = connection.recv_into(view, 0, socket.MSG_WAITALL)
        if count < len(view):
            # It closed, or time is up: the one leaves nothing to wait for.
            closed = not count or not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            raise Closed if closed else TooLate
    except BlockingIOError as error:
        raise TooLate from error
    except OSError as error:
        raise Closed from error
