"""Run the attempts of hostile candidates under a single layer, or under none. Run as a program.

    python bare.py LAYER < {name: code}   prints {name: outcome}

LAYER is a layer of `confinement` or "none". One process installs the layer for all attempts, because a refused attempt
has no effect. With "none", every attempt has its own process.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from poise_git.pipeline.sandbox import confinement, kernel


def told(layer: str, attempts: dict[str, str]) -> dict[str, str]:
    """The reported outcome of each attempt, each in its own process and in a fresh folder."""
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "there").write_text("before")
        process = os.fork()
        if process == 0:
            try:
                os.chdir(folder)
                os.write(writing, json.dumps(_attempt_all(layer, attempts)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading, encoding="utf-8") as pipe:
            found = pipe.read()
        _, status = os.waitpid(process, 0)
    return json.loads(found) if found else dict.fromkeys(attempts, f"ended with {os.waitstatus_to_exitcode(status)}")


def _attempt_all(layer: str, attempts: dict[str, str]) -> dict[str, str]:
    # In place of a candidate's connection there is a socket whose other end reads nothing.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 3)
    prepared = {name: _outcome(code) for name, code in attempts.items()}
    kernel.process_control(kernel.PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if layer != "none":
        dict(confinement._STEPS)[layer]()
    return {name: outcome() for name, outcome in prepared.items()}


def _outcome(code: str) -> Callable[[], str]:
    namespace: dict[str, Callable[[], str]] = {}
    exec(compile(code, "attempt", "exec"), namespace)
    return namespace["outcome"]


if __name__ == "__main__":
    layer, attempts = sys.argv[1], json.load(sys.stdin)
    if layer == "none":
        print(json.dumps({name: told(layer, {name: code})[name] for name, code in attempts.items()}))
    else:
        print(json.dumps(told(layer, attempts)))
