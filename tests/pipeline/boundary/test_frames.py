"""Frames between the trusted side and a candidate: bytes are a frame, or are refused in one line, in time."""

from __future__ import annotations

import json
import math
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from poise_git.pipeline.boundary.frames import (
    ANSWERED,
    DTYPES,
    Closed,
    Frame,
    FrameRefused,
    TooLate,
    receive,
    send,
)
from tests import sentences

LIMIT = 1 << 20


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The trusted end, and the candidate's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def raw(content: Any, kinds: Any, data: bytes = b"") -> bytes:
    return with_length(json.dumps([content, kinds]).encode()) + data


def with_length(header: bytes) -> bytes:
    return struct.pack(">I", len(header)) + header


def take(connection: socket.socket, seconds: float = 5.0) -> Frame:
    return receive(connection, LIMIT, time.monotonic() + seconds, ANSWERED)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (0, 4), (2, 0)], ids=str)
def test_tensors_arrive_bit_for_bit(
    ends: tuple[socket.socket, socket.socket], dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    ours, theirs = ends
    count = math.prod(shape)
    tensor = torch.linspace(-2, 2, count).reshape(shape).to(dtype)
    send(theirs, {"a": [1, None, "ä"]}, (tensor, tensor))
    frame = receive(ours)
    assert frame.content == {"a": [1, None, "ä"]}
    for found in frame.tensors:
        assert found.dtype == dtype
        assert found.shape == tensor.shape
        assert torch.equal(found, tensor)


def test_nan_and_infinity_arrive_bit_for_bit(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    odd = torch.tensor([math.nan, -0.0, math.inf, -math.inf, 1e-45])
    send(theirs, {}, (odd,))
    (found,) = take(ours).tensors
    assert torch.equal(found.view(torch.int32), odd.view(torch.int32))


def test_a_view_is_sent_without_its_base(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    whole = torch.arange(12.0).reshape(3, 4).requires_grad_()
    send(theirs, {}, (whole.t(), whole[:, 1], whole[:1].expand(3, 4)))
    found = receive(ours).tensors
    assert torch.equal(found[0], whole.t())
    assert torch.equal(found[1], whole[:, 1])
    assert torch.equal(found[2], whole[:1].expand(3, 4))


def test_tensors_of_odd_sizes_are_aligned_in_one_frame(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    odd = (torch.tensor([True, False, True]), torch.arange(3), torch.ones(5, dtype=torch.bfloat16), torch.zeros(0, 2))
    send(theirs, {}, (*odd, torch.arange(2.0)))
    found = receive(ours).tensors
    assert all(map(torch.equal, found, (*odd, torch.arange(2.0))))
    found[0].fill_(True)
    assert torch.equal(found[1], odd[1])


def test_a_frame_larger_than_a_buffer_arrives(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    big = torch.randn(3_000_000, generator=torch.Generator().manual_seed(0))
    thread = threading.Thread(target=send, args=(theirs, {"n": 1}, (big, big)))
    thread.start()
    frame = receive(ours)
    thread.join()
    assert all(torch.equal(found, big) for found in frame.tensors)


DEEP = 5000
REFUSED = {
    "no JSON": (with_length(b"hello"), "something that is not a frame"),
    "nothing": (with_length(b""), "something that is not a frame"),
    "no text": (with_length(b"\xff\xfe\xfa"), "something that is not a frame"),
    "deep lists": (with_length(b"[" * DEEP + b"]" * DEEP), "something that is not a frame"),
    "deep mappings": (with_length(b'[{"a":' * DEEP + b"1" + b"}" * DEEP), "something that is not a frame"),
    "a number too long to read": (with_length(b"[{}," + b"9" * 5000 + b"]"), "something that is not a frame"),
    "a text": (with_length(b'"x"'), "something that is not a frame"),
    "one element": (with_length(b"[{}]"), "something that is not a frame"),
    "three elements": (with_length(b"[{},[],[]]"), "something that is not a frame"),
    "a list for a mapping": (raw([], []), "something that is not a frame"),
    "a mapping for a list": (raw({}, {}), "something that is not a frame"),
    "many tensors": (raw({}, [["float32", [0]]] * 9), "something that is not a frame"),
    "a header of 4 GB": (b"\xff\xff\xff\xff", "a header of 4294967295 bytes"),
    "an unknown type": (raw({}, [["complex64", [1]]]), sentences.UNKNOWN_TENSOR),
    "a type that is a list": (raw({}, [[["float32"], [1]]]), sentences.UNKNOWN_TENSOR),
    "a bool": (raw({}, [["bool", [1]]], b"\x02"), "a tensor of type bool"),
    "a negative size": (raw({}, [["float32", [-1]]]), sentences.UNKNOWN_TENSOR),
    "two negative sizes": (raw({}, [["float32", [-1, -1]]], b"\0" * 4), sentences.UNKNOWN_TENSOR),
    "a fraction": (raw({}, [["float32", [1.5]]]), sentences.UNKNOWN_TENSOR),
    "true for a size": (raw({}, [["float32", [True]]]), sentences.UNKNOWN_TENSOR),
    "nine dimensions": (raw({}, [["float32", [1] * 9]]), sentences.UNKNOWN_TENSOR),
    "a shape that is a number": (raw({}, [["float32", 3]]), sentences.UNKNOWN_TENSOR),
    "no shape": (raw({}, [["float32"]]), sentences.UNKNOWN_TENSOR),
    "too many bytes": (raw({}, [["float32", [LIMIT]]]), f"{4 * LIMIT} bytes of tensors; the limit is {LIMIT}"),
    "too many bytes in two": (raw({}, [["int64", [LIMIT // 8]], ["int32", [1]]]), "bytes of tensors; the limit is"),
    "strides that overflow": (raw({}, [["float32", [0, 2**31, 2**31, 2**31]]]), sentences.TOO_MANY_ELEMENTS),
    "a size that overflows": (raw({}, [["float32", [10**30]]]), sentences.TOO_MANY_ELEMENTS),
    "nothing times a size that overflows": (raw({}, [["float32", [0, 10**30]]]), sentences.TOO_MANY_ELEMENTS),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_invalid_frame_is_refused_in_one_line(ends: tuple[socket.socket, socket.socket], what: str) -> None:
    ours, theirs = ends
    data, said = REFUSED[what]
    theirs.sendall(data)
    with pytest.raises(FrameRefused) as caught:
        take(ours)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\0\0", raw({}, [["float32", [4]]], b"\0" * 15), with_length(b"{}")[:-1]])
def test_an_incomplete_frame_ends_the_connection(ends: tuple[socket.socket, socket.socket], data: bytes) -> None:
    ours, theirs = ends
    theirs.sendall(data)
    theirs.close()
    with pytest.raises(Closed):
        take(ours)


def test_a_frame_that_arrives_slowly_is_too_late(ends: tuple[socket.socket, socket.socket]) -> None:
    """Each byte arrives in time, but the whole frame does not."""
    ours, theirs = ends
    over = threading.Event()

    def drip() -> None:
        for byte in raw({}, [["float32", [1000]]], b"\0" * 4000):
            if over.wait(0.02):
                return
            theirs.sendall(bytes([byte]))

    thread = threading.Thread(target=drip)
    thread.start()
    began = time.monotonic()
    with pytest.raises(TooLate):
        take(ours, 0.5)
    assert 0.4 < time.monotonic() - began < 2.0
    over.set()
    thread.join()


def test_a_reader_that_reads_slowly_is_too_late(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    over = threading.Event()

    def sip() -> None:
        while not over.wait(0.02):
            theirs.recv(1 << 12)

    thread = threading.Thread(target=sip)
    thread.start()
    began = time.monotonic()
    with pytest.raises(TooLate):
        send(ours, {}, (torch.zeros(10_000_000),), time.monotonic() + 0.5)
    assert 0.4 < time.monotonic() - began < 2.0
    over.set()
    thread.join()


def test_no_frame_in_time_is_too_late(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(TooLate):
        take(ends[0], 0.1)


def test_a_closed_reader_ends_the_connection(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.close()
    with pytest.raises(Closed):
        send(ours, {}, (torch.zeros(1_000_000),))


def test_reading_a_frame_leaves_the_next_one_unread(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    for number in range(3):
        send(theirs, {"number": number}, (torch.full((number,), float(number)),))
    for number in range(3):
        frame = take(ours)
        assert frame.content == {"number": number}
        assert frame.tensors[0].tolist() == [float(number)] * number


@pytest.mark.parametrize("value", [torch.zeros(2, dtype=torch.complex64), torch.zeros(2, dtype=torch.uint8)])
def test_a_type_that_cannot_be_sent_is_reported(ends: tuple[socket.socket, socket.socket], value: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=f"type {value.dtype} cannot be sent"):
        send(ends[1], {}, (value,))
