"""The process that runs untrusted code: it seals the sandbox from inside, then calls the entry point."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from poise_git.pipeline.sandbox import kernel
from poise_git.pipeline.sandbox.layers import Wall

# The descriptor of the message pipe; 1 and 2 are the output pipe.
_MESSAGES = 3
# The first descriptor that a caller hands to a child.
FIRST_HANDED = 4
_REASON_LENGTH = 400


def run(
    wall: Wall, entry: str, arguments: Mapping[str, Any], messages: int, output: int, handed: Sequence[int]
) -> NoReturn:
    """Call `entry` behind the wall. Its messages and its value go to `messages`, and its output goes to `output`.

    The descriptors `handed` become FIRST_HANDED and the numbers that follow.
    """
    status = 1
    try:
        _take_descriptors(messages, output, handed)
        os.setsid()
        _settle(str(wall.scratch))
        wall.shut()
        _tell("layers", [layer.to_data() for layer in wall.layers])
        if wall.require_isolation and wall.missing:
            os._exit(0)
        _tell("value", _call(entry, arguments))
        status = 0
    except BaseException as error:
        traceback.print_exc()
        _tell("error", _one_line(error))
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _call(entry: str, arguments: Mapping[str, Any]) -> Any:
    module, _, function = entry.partition(":")
    return getattr(importlib.import_module(module), function)(arguments, lambda message: _tell("message", message))


def _tell(kind: str, content: Any) -> None:
    line = json.dumps({kind: content}).encode() + b"\n"
    while line:
        line = line[os.write(_MESSAGES, line) :]


def _take_descriptors(messages: int, output: int, handed: Sequence[int]) -> None:
    """Keep the pipes and the handed descriptors, and close everything else, above all the line to the parent."""
    # Move them out of the way first, so that no duplicate overwrites a descriptor that is still needed.
    sources = (os.open(os.devnull, os.O_RDONLY), output, output, messages, *handed)
    high = [fcntl.fcntl(source, fcntl.F_DUPFD, len(sources)) for source in sources]
    for target, source in enumerate(high):
        os.dup2(source, target)
    os.closerange(len(sources), os.sysconf("SC_OPEN_MAX"))


def _settle(scratch: str) -> None:
    os.chdir(scratch)
    os.environ |= {"HOME": scratch, "TMPDIR": scratch, "USER": "nobody"}
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    kernel.process_control(kernel.PR_SET_DUMPABLE, 1)
    # Write each line at once, so that the tail of the output survives any end of the process.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return line if len(line) <= _REASON_LENGTH else line[: _REASON_LENGTH - 1] + "…"
