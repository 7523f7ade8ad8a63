"""The fork server: one clean process that has imported what every run needs, and forks a keeper for each.

It has no keys in its environment, no thread beside the main one, and never loads a candidate's code.
Started as `python -m poise_git.pipeline.sandbox.server SOCKET MODULE...`; it ends when the socket's other side closes.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import sys
from collections.abc import Sequence

from poise_git.pipeline.sandbox.keeper import keep

# The line to the parent, and the write ends of two pipes: messages and output.
DESCRIPTORS = 3


def serve(requests: socket.socket, modules: Sequence[str]) -> None:
    """Fork a keeper for each trio of descriptors that arrives, until nobody is left to send any."""
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = os.getpid()
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, 1, DESCRIPTORS)
        if not data:
            return
        line, messages, output = descriptors
        if os.fork() == 0:
            requests.close()
            keep(socket.socket(fileno=line), messages, output, server)
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
