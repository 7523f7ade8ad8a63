"""For any bytes from the candidate's end of the channel, the trusted side gets numbers or CandidateFailed, at once."""

from __future__ import annotations

import json
import resource
import socket
import struct
import time
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from poise_git.pipeline.boundary import CandidateFailed
from poise_git.pipeline.boundary.algorithm import GuardedAlgorithm
from poise_git.pipeline.boundary.process import CandidateProcess

REWARDS = torch.zeros(4, 6)
MASK = torch.ones(4, 6)
INDEX = [0, 0, 1, 1]
# Seconds for the four runs of a case; no run waits, because the other end is closed.
AT_MOST = 5.0
# The size of a socket's buffer, so that a case needs no second thread.
LONGEST = 100_000


def channel_case(data: bytes) -> None:
    """One case for any fuzzer: `data` holds all bytes that a candidate's process sends."""
    began = time.monotonic()
    for before in (b"", frame({"loaded": True})):
        for entry_point in (_advantages, _gradient):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                theirs.sendall((before + data)[:LONGEST])
                theirs.shutdown(socket.SHUT_WR)
                try:
                    entry_point(GuardedAlgorithm(CandidateProcess(ours, seconds=1.0), None, 0))
                except CandidateFailed as failure:
                    said = str(failure)
                    assert said
                    assert said.isprintable()
                    said.encode()
    assert time.monotonic() - began < AT_MOST


def _advantages(algorithm: GuardedAlgorithm) -> None:
    found = algorithm.advantages(REWARDS, MASK, INDEX)
    assert found.shape == REWARDS.shape
    assert found.dtype == REWARDS.dtype
    assert found.isfinite().all()


def _gradient(algorithm: GuardedAlgorithm) -> None:
    found = algorithm.gradient(REWARDS, REWARDS, REWARDS, MASK, "token-mean")
    assert found.by_log_probs.shape == REWARDS.shape
    assert found.by_log_probs.dtype == REWARDS.dtype
    assert found.by_log_probs.isfinite().all()
    assert abs(found.loss) < float("inf")


def frame(content: Any, kinds: Any = (), data: bytes = b"") -> bytes:
    header = json.dumps([content, kinds]).encode()
    return struct.pack(">I", len(header)) + header + data


ANYTHING = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=20),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ELEMENT = ANYTHING | some.fixed_dictionaries(
    {"tensor": some.integers(-2, 3) | ANYTHING, "requires_grad": some.booleans()}
)
CONTENT = ANYTHING | some.fixed_dictionaries(
    {},
    optional={
        "failed": ANYTHING,
        "loaded": ANYTHING,
        "returned": ANYTHING | some.lists(ELEMENT, min_size=1, max_size=2),
        "metrics": ANYTHING,
    },
)
SIZE = some.sampled_from([0, 1, 4, 6, 24, -1, 2**31, 2**64, True, 4.0, "4"])
SHAPE = ANYTHING | some.just([4, 6]) | some.just([]) | some.lists(SIZE, max_size=9)
NAME = some.sampled_from(["float32", "float64", "bfloat16", "int64", "bool", "complex64", ""]) | ANYTHING
KIND = ANYTHING | some.tuples(NAME, SHAPE)
KINDS = ANYTHING | some.lists(KIND, max_size=3)
FRAME = some.builds(frame, CONTENT, KINDS, some.binary(max_size=300))
# Almost an answer: only the numbers may be wrong.
NUMBERS = some.lists(some.floats(width=32), min_size=24, max_size=24).map(lambda values: struct.pack("24f", *values))
NEAR = some.builds(
    lambda numbers: frame({"returned": [{"tensor": 0}, {}]}, [["float32", [4, 6]]], numbers), NUMBERS
) | some.builds(
    lambda loss, numbers: frame({}, [["float32", []], ["float32", [4, 6]]], loss[:8] + numbers), NUMBERS, NUMBERS
)
CASES = some.lists(FRAME | NEAR | some.binary(max_size=200), max_size=3).map(b"".join)


@settings(max_examples=150)
@given(CASES)
def test_any_message_of_a_candidate_gives_numbers_or_a_failure(data: bytes) -> None:
    channel_case(data)


@settings(max_examples=100)
@given(some.binary(max_size=2000))
def test_any_bytes_give_numbers_or_a_failure(data: bytes) -> None:
    channel_case(data)


def test_known_cases_give_numbers_or_a_failure() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    nested: Any = "x"
    for _ in range(900):
        nested = [nested]
    for case in (
        frame({"failed": nested}),
        frame({"failed": "\ud800\x1b]0;title\x07\u202e"}),
        frame({"failed": {"a": 1}}),
        frame({"returned": nested}),
        frame({"returned": [nested, nested]}),
        frame({}, [["float32", [0, 2**31, 2**31, 2**31]]]),
        frame({}, [["float32", [2**31, 0]]]),
        # The largest accepted size, announced and never sent.
        *(frame({}, [["float64", [size]]]) for size in (8000, 16000, 2**27, 2**39)),
        frame({"returned": [{"tensor": 0}, {}]}, [["int64", [4, 6]]], b"\1" * 192),
        frame({"returned": [{"tensor": 0}, {}]}, [["float64", [4, 6]]], struct.pack("24d", *[1e300] * 24)),
        frame({}, [["int64", []], ["float32", [4, 6]]], b"\xff" * 8 + b"\0" * 96),
        frame({}, [["float64", [1, 1, 1]], ["float32", [4, 6]]], struct.pack("d", 1e308) + b"\0" * 96),
        b"\0\0\xff\xff" + b"[" * 65535,
    ):
        channel_case(case)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, "kilobytes"


def test_a_complete_answer_is_accepted() -> None:
    """The cases above get as far as the numbers: with good numbers nothing is refused."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(frame({"loaded": True}))
        theirs.sendall(frame({"returned": [{"tensor": 0}, {}]}, [["float32", [4, 6]]], b"\0" * 96))
        theirs.sendall(frame({}, [["float32", []], ["float32", [4, 6]]], b"\0" * 104))
        algorithm = GuardedAlgorithm(CandidateProcess(ours), None, 0)
        _advantages(algorithm)
        _gradient(algorithm)
