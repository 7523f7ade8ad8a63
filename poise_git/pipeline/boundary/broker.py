"""The door of a trusted child for other processes, because a framework's workers inherit no descriptors.

A worker connects to a socket in the child's folder and then talks to a candidate's process of its own.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from poise_git.pipeline.boundary.door import CANDIDATE, Door
from poise_git.pipeline.boundary.failures import CandidateFailed

NAME = "door"
# The longest address of a Unix socket in bytes; see unix(7).
_LONGEST_ADDRESS = 107


@contextmanager
def broker(door: Door, folder: Path) -> Iterator[Path]:
    """Serve `door` in `folder` for the length of the block; return the socket that workers connect to."""
    path = folder / NAME
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    with listener, _address(path) as address:
        listener.bind(address)
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, door), name="candidate-broker", daemon=True)
        thread.start()
        try:
            yield path
        finally:
            # A shutdown wakes the thread; closing the socket would not.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            path.unlink(missing_ok=True)


def connect(path: Path) -> socket.socket:
    """A connection to a fresh process of the candidate. Raises CandidateFailed."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        with _address(path) as address:
            connection.connect(address)
    except OSError as error:
        connection.close()
        raise CandidateFailed("the host of the candidate's processes is gone") from error
    return connection


def _serve(listener: socket.socket, door: Door) -> None:
    # The loop ends when the listener closes.
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, suppress(CandidateFailed):
                door.hand_over(CANDIDATE, connection)


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """`path` as a socket's address, through its folder's descriptor if it is too long."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
