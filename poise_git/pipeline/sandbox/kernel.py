"""The Linux system calls of the sandbox, each raising OSError with the call's name."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
# NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, each locked, and KEEP_CAPS locked at 0; see capabilities(7).
_NO_CAPABILITIES_BY_ID = 0b11101111

LANDLOCK_CREATE_RULESET = 444
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446

_MOUNT_SETATTR = 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_CAPABILITY_VERSION_3 = 0x20080522
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 0x1
_MOUNT_ATTR_NOSUID = 0x2
_MNT_DETACH = 2
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_libc = ctypes.CDLL(None, use_errno=True)


def system_call(name: str, number: int, *arguments: object) -> int:
    """The call's result. Raises OSError if it is negative."""
    return _checked(name, _libc.syscall(ctypes.c_long(number), *arguments))


def unshare(flags: int) -> None:
    _checked("unshare", _libc.unshare(flags))


def process_control(option: int, value: int) -> int:
    """prctl(2)."""
    zero = ctypes.c_ulong(0)
    return _checked("prctl", _libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def seccomp(operation: int, flags: int, address: int) -> int:
    return system_call(
        "seccomp", _number(_SECCOMP), ctypes.c_uint(operation), ctypes.c_uint(flags), ctypes.c_void_p(address)
    )


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    fields = [None if field is None else os.fsencode(field) for field in (source, target, kind, data)]
    _checked(f"mount {target}", _libc.mount(fields[0], fields[1], fields[2], ctypes.c_ulong(flags), fields[3]))


def set_read_only(target: str, *, recursive: bool) -> None:
    """Make the mount `target`, and with `recursive` all below it, read-only and set-uid free (Linux 5.12)."""
    attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID, 0, 0, 0)
    system_call(
        f"mount_setattr {target}",
        _MOUNT_SETATTR,
        _AT_FDCWD,
        os.fsencode(target),
        _AT_RECURSIVE if recursive else 0,
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )


def enter_root(folder: str) -> None:
    """Make the mount point `folder` the root folder, with the old root unreachable."""
    os.chdir(folder)
    system_call("pivot_root", _number(_PIVOT_ROOT), b".", b".")
    _checked("umount2", _libc.umount2(b".", _MNT_DETACH))
    os.chdir("/")


def bring_up_loopback() -> None:
    """Let processes of this network namespace reach each other; see netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def drop_capabilities() -> None:
    """Give up every capability, including those over its own user namespace."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    system_call("capset", _number(_CAPSET), ctypes.byref(header), ctypes.byref(nothing))


def empty_bounding_set() -> None:
    """Keep this process and all its descendants from any capability, under every later program and user.

    Needs CAP_SETPCAP, unless the set is empty already.
    """
    capability = 0
    while (held := _capability_bound(capability)) is not None:
        if held:
            process_control(_PR_CAPBSET_DROP, capability)
        capability += 1
    process_control(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)


def lock_secure_bits() -> None:
    """Keep user 0 and changes of user from bringing capabilities. Needs CAP_SETPCAP."""
    process_control(_PR_SET_SECUREBITS, _NO_CAPABILITIES_BY_ID)


def _capability_bound(capability: int) -> bool | None:
    """Whether the capability is in the bounding set; None beyond the kernel's last capability."""
    try:
        return bool(process_control(_PR_CAPBSET_READ, capability))
    except OSError:
        return None


def _number(numbers: dict[str, int]) -> int:
    try:
        return numbers[platform.machine()]
    except KeyError:
        raise OSError(f"not known for {platform.machine()}") from None


def _checked(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
