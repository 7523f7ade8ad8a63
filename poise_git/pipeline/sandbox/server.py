"""The fork server: one clean process that imports the modules that runs need, and forks a keeper for each run.

Its environment holds no keys, it has only its main thread, and it never loads a candidate's code. It starts as
`python -m poise_git.pipeline.sandbox.server SOCKET` and ends when the socket's other side closes.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import sys

from poise_git.pipeline.sandbox.keeper import keep

# The line to the parent, the write ends of two pipes (messages and output), and two that the caller may hand over.
DESCRIPTORS = 5


# The limit for the names of all modules that a run asks to import, in bytes.
_LONGEST = 1 << 12


def serve(requests: socket.socket) -> None:
    """Fork a keeper for each set of descriptors that arrives, until the other side closes.

    The names of modules come with them, as JSON. The server imports these once, for this run and all later ones.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = os.getpid()
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, _LONGEST, DESCRIPTORS)
        if not data:
            return
        for module in json.loads(data):
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
        line, messages, output, *handed = descriptors
        if os.fork() == 0:
            requests.close()
            keep(socket.socket(fileno=line), messages, output, handed, server)
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
    # Unloading torch in order takes longer than a short run, and the parent waits for it.
    os._exit(0)
