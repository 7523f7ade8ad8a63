"""The system calls that the processes of a run may make.

A deny list applies to every child, also to one that runs trusted code, because the calls of frameworks such as Ray and
vLLM cannot be listed completely. The process that runs a candidate is also under an allow list: it computes, and
communicates only over descriptors that it holds. A refused call fails with EPERM, so that a library can use its
alternative.
"""

from __future__ import annotations

import errno
import os
import socket
import termios

from poise_git.pipeline.sandbox import kernel
from poise_git.pipeline.sandbox.seccomp import ALWAYS, NEVER, UNKNOWN, Condition, Policy, Rule, rules

_NEW_NAMESPACES = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWCGROUP
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
)

_DENIED = {
    # Subsystems of the kernel that a computation does not need.
    **rules(NEVER, "io_uring_setup io_uring_enter io_uring_register"),
    **rules(NEVER, "keyctl add_key request_key bpf perf_event_open userfaultfd fanotify_init fanotify_mark"),
    # Mounts, roots and namespaces.
    **rules(
        NEVER, "mount umount2 pivot_root chroot open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick"
    ),
    **rules(NEVER, "mount_setattr statmount listmount listns unshare setns"),
    "clone": Rule(((Condition(0, 0, mask=_NEW_NAMESPACES),),)),
    # The flags of clone3 are in memory, which a filter cannot read. libc falls back to clone.
    "clone3": UNKNOWN,
    # Access to other processes, and to files without their paths.
    **rules(NEVER, "ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_getfd"),
    **rules(NEVER, "name_to_handle_at open_by_handle_at"),
    # Memory that no process is charged for: unnamed files, and System V memory, which outlives its processes.
    **rules(NEVER, "memfd_create memfd_secret"),
    **rules(NEVER, "shmget shmat shmctl shmdt msgget msgsnd msgrcv msgctl semget semop semctl semtimedop"),
    **rules(NEVER, "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr"),
    # Control of the machine.
    **rules(NEVER, "kexec_load kexec_file_load init_module finit_module delete_module create_module"),
    **rules(NEVER, "swapon swapoff acct quotactl quotactl_fd reboot syslog nfsservctl vhangup lookup_dcookie _sysctl"),
    **rules(NEVER, "settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname"),
    **rules(NEVER, "personality iopl ioperm modify_ldt uselib lsm_set_self_attr"),
    "socketpair": Rule(((Condition(0, socket.AF_UNIX),),), errno.EAFNOSUPPORT),
}


def _sockets(*alternatives: tuple[Condition, ...]) -> dict[str, Rule]:
    return {"socket": Rule(alternatives, errno.EAFNOSUPPORT)}


_UNIX, _IPV4, _IPV6 = ((Condition(0, family),) for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6))
# Gloo and ZeroMQ stop if they cannot list the network's interfaces, which needs NETLINK_ROUTE. Without capabilities it
# can change nothing, and it shows only the interfaces of this network namespace.
_INTERFACES = (Condition(0, socket.AF_NETLINK), Condition(2, socket.NETLINK_ROUTE))

_MAP_SHARED, _MAP_ANONYMOUS, _MAP_HUGETLB = 0x1, 0x20, 0x40000
# Private memory and files may be mapped. Unnamed shared memory may not, because its pages stay after the last process
# unmaps them, and no process is charged for them. Private memory may be executable, because oneDNN compiles its
# kernels, and machine code adds nothing to the powers of ctypes.
_NO_SHARED_MEMORY = {
    "mmap": Rule(
        (
            (Condition(3, 0, mask=_MAP_SHARED | _MAP_HUGETLB),),
            (Condition(3, 0, mask=_MAP_ANONYMOUS | _MAP_HUGETLB),),
        )
    )
}

# For frameworks whose processes talk to each other and start programs.
SERVICES_DENIED = Policy("services", {**_DENIED, **_sockets(_UNIX, _IPV4, _IPV6, _INTERFACES)}, others=ALWAYS)
# For a plain computation, which has no network and starts no program.
COMPUTATION_DENIED = Policy(
    "computation",
    {**_DENIED, **_NO_SHARED_MEMORY, **_sockets(_UNIX), **rules(NEVER, "execve execveat")},
    others=ALWAYS,
)

# __O_TMPFILE without O_DIRECTORY, whose bit differs between architectures.
_UNNAMED_FILE = 0o20000000
_FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | _UNNAMED_FILE
# PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_CAPBSET_READ, and PR_SET_VMA, with which malloc names its memory.
_HARMLESS_OPTIONS = (3, 15, 16, 23, 0x53564D41)
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL and F_DUPFD_CLOEXEC; not F_SETOWN, which signals other processes.
_DESCRIPTOR_COMMANDS = (0, 1, 2, 3, 4, 1030)
_FUTEX_PRIVATE = 128
_DESCRIPTOR_CONTROLS = (
    *(termios.TCGETS, termios.TIOCGWINSZ, termios.FIONREAD, termios.FIONBIO),
    *(termios.FIOCLEX, termios.FIONCLEX),
)


# Options that describe the socket itself; not SO_PEERPIDFD, a handle on the process at the other end.
_SOCKET_OPTIONS = (
    *(socket.SO_TYPE, socket.SO_ERROR, socket.SO_DOMAIN, socket.SO_PROTOCOL),
    *(socket.SO_SNDBUF, socket.SO_RCVBUF),
)


def _one_of(argument: int, values: tuple[int, ...]) -> Rule:
    return Rule(tuple((Condition(argument, value),) for value in values))


# MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP and MADV_DODUMP; not MADV_PAGEOUT, which
# empties the page cache.
_ADVICE = (4, 8, 14, 15, 16, 17)
_MEMORY = {**rules(ALWAYS, "mprotect munmap mremap brk"), "madvise": _one_of(2, _ADVICE)}
# All processes share the page cache, and it outlives them. A process that could empty it, or ask whether it holds a
# page, could store bits in it. So fadvise64, mincore, cachestat and preadv2 with RWF_NOWAIT are refused, and so is
# getrusage, which counts the pages that had to be fetched.
_FILES_TO_READ = {
    "open": Rule(((Condition(1, 0, mask=_FOR_WRITING),),)),
    "openat": Rule(((Condition(2, 0, mask=_FOR_WRITING),),)),
    # The flags of openat2 are in memory, which a filter cannot read.
    "openat2": UNKNOWN,
    **rules(ALWAYS, "stat lstat fstat newfstatat statx access faccessat faccessat2 readlink readlinkat statfs fstatfs"),
    **rules(ALWAYS, "getdents getdents64 getcwd lseek pread64 preadv"),
}
_DESCRIPTORS = {
    **rules(ALWAYS, "read write readv writev close close_range dup dup2 dup3"),
    **{name: Rule(((Condition(2, 0, mask=socket.MSG_OOB),),)) for name in ("recvmsg", "sendmsg")},
    **{name: Rule(((Condition(3, 0, mask=socket.MSG_OOB),),)) for name in ("recvfrom", "sendto")},
    **rules(ALWAYS, "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait"),
    **rules(ALWAYS, "getsockname getpeername shutdown"),
    "getsockopt": Rule(tuple((Condition(1, socket.SOL_SOCKET), Condition(2, option)) for option in _SOCKET_OPTIONS)),
    "fcntl": _one_of(1, _DESCRIPTOR_COMMANDS),
    "ioctl": _one_of(1, _DESCRIPTOR_CONTROLS),
}
_ITSELF = {
    **rules(ALWAYS, "exit exit_group restart_syscall set_robust_list rseq set_tid_address sched_yield"),
    # A futex that is not private, in a page that other processes map, would reach those processes.
    "futex": Rule(((Condition(1, _FUTEX_PRIVATE, mask=_FUTEX_PRIVATE),),)),
    **rules(ALWAYS, "clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrandom"),
    **rules(ALWAYS, "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack"),
    **rules(ALWAYS, "getitimer setitimer pause"),
    **rules(ALWAYS, "getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp"),
    **rules(ALWAYS, "uname sysinfo getrlimit getcpu sched_getaffinity get_mempolicy capget"),
    "prctl": _one_of(0, _HARMLESS_OPTIONS),
}


def candidate_policy(pid: int) -> Policy:
    """The calls that process `pid` (its own number) may make when it runs a candidate's code in a single thread.

    It cannot start processes or threads, create files, open files except for reading, open sockets, or signal other
    processes.
    """
    limits = tuple((Condition(0, who), Condition(2, 0, mask=(1 << 64) - 1, wide=True)) for who in (0, pid))
    return Policy(
        "candidate",
        {
            **_DESCRIPTORS,
            **_MEMORY,
            **_NO_SHARED_MEMORY,
            **_ITSELF,
            **_FILES_TO_READ,
            "tgkill": Rule(((Condition(0, pid),),)),
            "prlimit64": Rule(limits),
            "clone3": UNKNOWN,
        },
        others=NEVER,
    )
