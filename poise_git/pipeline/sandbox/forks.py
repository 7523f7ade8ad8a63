"""The parent's handle of the fork server, which starts on first use and restarts after it died."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import poise_git
from poise_git.errors import PoiseError

# The only environment that a child inherits.
_ALLOWED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
# One thread per run, because runs are parallel and a server with threads could not fork.
_SINGLE_THREADED = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
_SERVER = "poise_git.pipeline.sandbox.server"
# The server gets the parent's own module path.
_BOOT = f"""import sys, runpy, json
sys.path[:] = json.loads(sys.argv.pop(1))
runpy.run_module({_SERVER!r}, run_name="__main__")"""
_PATIENCE = 10.0


class ForkServer:
    """Send the descriptors of runs to a server process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._errors: IO[bytes] | None = None

    def submit(self, descriptors: Sequence[int], modules: Sequence[str]) -> None:
        """Let a server that has imported `modules` fork a keeper that owns copies of `descriptors`.

        Raises:
            PoiseError: the server cannot be started.
        """
        with self._lock:
            if not (self._alive() and self._send(descriptors, modules)):
                self._end()
                self._start()
                if not self._send(descriptors, modules):
                    raise PoiseError(f"the sandbox's fork server does not start: {self.last_words()}")

    def last_words(self) -> str:
        """The last line the server printed."""
        if self._errors is None:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        with self._lock:
            self._end()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _send(self, descriptors: Sequence[int], modules: Sequence[str]) -> bool:
        assert self._line is not None
        try:
            socket.send_fds(self._line, [json.dumps(modules).encode()], descriptors)
        except OSError:
            return False
        return True

    def _start(self) -> None:
        if sys.platform != "linux":
            raise PoiseError("the sandbox needs Linux; run poise-git in a Linux container or virtual machine")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
        own = str(Path(poise_git.__file__).parents[1])
        path = [*(entry for entry in sys.path if os.path.isabs(entry)), own]
        inherited = {name: os.environ[name] for name in _ALLOWED if name in os.environ}
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-s", "-P", "-c", _BOOT, json.dumps(path)),
                    str(theirs.fileno()),
                ],
                env={**inherited, **_SINGLE_THREADED, "PYTHONHASHSEED": "0"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
            )
        self._line = ours

    def _end(self) -> None:
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._errors is not None:
            with contextlib.suppress(OSError):
                self._errors.close()
        self._process = self._line = self._errors = None
