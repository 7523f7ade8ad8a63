"""Landlock (Linux 5.13): a process gives up, for itself and its children, all files except the named ones.

https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from poise_git.pipeline.sandbox import kernel

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE

_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("access", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """The kernel's Landlock ABI, from 1. Raises OSError where there is none."""
    return kernel.system_call(
        "landlock", kernel.LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION
    )


def restrict(readable: Iterable[Path], writable: Iterable[Path], *, loopback: bool) -> int:
    """Allow reading and executing beneath `readable`, everything beneath `writable`, and nothing else.

    Also forbids TCP (ABI 4; not with `loopback`, where a network namespace limits it), and abstract sockets and signals
    to processes outside (ABI 6), as far as the kernel can.
    Needs no_new_privs. Paths that do not exist are skipped.

    Returns: the ABI.
    Raises: OSError.
    """
    abi = version()
    files = (1 << 13) - 1
    files |= _REFER if abi >= 2 else 0
    files |= _TRUNCATE if abi >= 3 else 0
    files |= _IOCTL_DEVICE if abi >= 5 else 0
    rules = _Ruleset(files, 0b11 if abi >= 4 and not loopback else 0, 0b11 if abi >= 6 else 0)
    # An older kernel refuses a structure longer than the one it knows, unless the rest is zero.
    ruleset = kernel.system_call(
        "landlock_create_ruleset",
        kernel.LANDLOCK_CREATE_RULESET,
        ctypes.byref(rules),
        ctypes.c_size_t(ctypes.sizeof(rules)),
        0,
    )
    try:
        for path in readable:
            _allow(ruleset, path, _READ)
        for path in writable:
            _allow(ruleset, path, files)
        kernel.system_call("landlock_restrict_self", kernel.LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return abi


def _allow(ruleset: int, path: Path, access: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            access &= _ON_FILES
        rule = _PathBeneath(access, opened)
        kernel.system_call(
            "landlock_add_rule", kernel.LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0
        )
    finally:
        os.close(opened)
