"""Computations of an honest candidate under the filter of its process, and calls that the filter refuses."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import mmap
import os
import platform
import resource
import signal
import socket
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from poise_git.pipeline.boundary.in_process import InProcess
from poise_git.pipeline.checks.batches import degenerate, mixed
from poise_git.pipeline.checks.trial import Trial
from poise_git.pipeline.sandbox.policies import candidate_policy
from poise_git.pipeline.sandbox.seccomp import install
from poise_git.pipeline.sandbox.system_calls import number_of

Send = Callable[[Mapping[str, Any]], None]


def cards(arguments: Mapping[str, Any], send: Send) -> dict[str, float]:
    """Each text's advantages and gradient on ordinary and degenerate batches, summed: name -> figure."""
    install(candidate_policy(os.getpid()))
    return {name: _figure(name, text, arguments["rollouts"]) for name, text in arguments["texts"].items()}


def unfiltered_cards(arguments: Mapping[str, Any], send: Send) -> dict[str, float]:
    return {name: _figure(name, text, arguments["rollouts"]) for name, text in arguments["texts"].items()}


def _figure(name: str, text: str, rollouts: str) -> float:
    recipe = {"algorithm.py": text, "rollouts.py": rollouts}
    trial = Trial.of(lambda _: InProcess(recipe), name)
    total = 0.0
    for batch in (mixed(), *degenerate()):
        outcome = trial.outcome(batch, sizes=batch.sizes)
        total += float(trial.advantages(batch).double().sum() + outcome.gradient.double().abs().sum())
    return total


def computations(arguments: Mapping[str, Any], send: Send) -> list[str]:
    """The names of honest computations that fail under the filter, with the reasons."""
    install(candidate_policy(os.getpid()))
    failed = []
    for name, step in HONEST.items():
        try:
            step()
        except BaseException as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
    return failed


def _backward(step: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype = torch.float32) -> Callable[[], None]:
    def run() -> None:
        leaf = torch.rand(48, 48, dtype=dtype, generator=torch.Generator().manual_seed(1)).requires_grad_()
        step(leaf).float().sum().backward()
        assert leaf.grad is not None
        assert bool(torch.isfinite(leaf.grad).all())

    return run


def _spread(leaf: torch.Tensor) -> torch.Tensor:
    return leaf @ leaf.mT + torch.eye(len(leaf), dtype=leaf.dtype) * len(leaf)


def _convolution(dtype: torch.dtype) -> Callable[[], None]:
    return _backward(
        lambda leaf: torch.nn.functional.conv1d(leaf[None], torch.ones(8, 48, 3, dtype=dtype), padding=1), dtype
    )


def _trace() -> None:
    try:
        raise ValueError(f"a figure of {1 / 3:.3f}, {torch.rand(3)}")
    except ValueError:
        text = io.StringIO()
        traceback.print_exc(file=text)
        assert "raise ValueError" in text.getvalue(), "the line of the source"
        traceback.print_exc()


def _lazy_imports() -> None:
    # Modules that torch imports late.
    import decimal
    import fractions
    import statistics

    import torch._dynamo
    import torch.distributions
    import torch.func

    assert decimal.Decimal("1.10") + fractions.Fraction(1, 1).numerator == decimal.Decimal("2.10")
    assert statistics.median([1, 2, 3]) == 2
    assert torch.func.vmap(torch.sin)(torch.zeros(3)).sum() == 0
    assert torch.distributions.Normal(0.0, 1.0).log_prob(torch.tensor(0.0)) < 0


def _warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("said on standard error", stacklevel=2)


def _much_memory() -> None:
    for _ in range(3):
        assert float(torch.ones(16 << 20).sum()) == 16 << 20


def _optimizer() -> None:
    leaf = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.AdamW([leaf])
    leaf.sum().backward()
    optimizer.step()


class _Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value * 2

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * 2


HONEST: dict[str, Callable[[], object]] = {
    "sort": _backward(lambda leaf: leaf.sort(dim=-1).values),
    "topk": _backward(lambda leaf: leaf.topk(5).values),
    "quantile": _backward(lambda leaf: leaf.quantile(0.3, dim=-1)),
    "median": _backward(lambda leaf: leaf.median(dim=-1).values),
    "einsum": _backward(lambda leaf: torch.einsum("ij,kj->ik", leaf, leaf)),
    "matmul of bfloat16": _backward(lambda leaf: leaf @ leaf, torch.bfloat16),
    "matmul of float16": _backward(lambda leaf: leaf @ leaf, torch.float16),
    "matmul of float64": _backward(lambda leaf: leaf @ leaf, torch.float64),
    "solve": _backward(lambda leaf: torch.linalg.solve(_spread(leaf), leaf)),
    "svd": _backward(lambda leaf: torch.linalg.svdvals(leaf)),
    "eigh": _backward(lambda leaf: torch.linalg.eigvalsh(_spread(leaf))),
    "cholesky": _backward(lambda leaf: torch.linalg.cholesky(_spread(leaf))),
    "qr": _backward(lambda leaf: torch.linalg.qr(leaf).R),
    "fft": _backward(lambda leaf: torch.fft.rfft(leaf).abs()),
    "convolution": _convolution(torch.float32),
    "convolution of bfloat16": _convolution(torch.bfloat16),
    "softmax": _backward(lambda leaf: leaf.softmax(-1).log()),
    "cumsum": _backward(lambda leaf: leaf.cumsum(-1)),
    "scatter": _backward(lambda leaf: torch.zeros(48, 48).scatter_add(1, torch.zeros(48, 48).long(), leaf)),
    "index_add": _backward(lambda leaf: torch.zeros(3, 48).index_add(0, torch.arange(48) % 3, leaf)),
    "embedding": _backward(lambda leaf: torch.nn.functional.embedding(torch.arange(9), leaf)),
    "layer norm": _backward(lambda leaf: torch.nn.functional.layer_norm(leaf, (48,))),
    "gelu of bfloat16": _backward(lambda leaf: torch.nn.functional.gelu(leaf), torch.bfloat16),
    "attention": _backward(lambda leaf: torch.nn.functional.scaled_dot_product_attention(*(leaf[None, None],) * 3)),
    "own function": _backward(_Double.apply),
    "second derivative": lambda: torch.autograd.functional.hessian(lambda x: (x**3).sum(), torch.ones(3)),
    "unique": lambda: torch.randint(9, (99,)).unique(return_inverse=True),
    "multinomial": lambda: torch.rand(9).multinomial(3),
    "sparse": lambda: torch.eye(9).to_sparse() @ torch.rand(9, 9),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16)(lambda: torch.rand(9, 9) @ torch.rand(9, 9))(),
    "numbers as text": lambda: f"{torch.tensor(1 / 3).item():.17g} {torch.rand(99, 99)}",
    "traceback": _trace,
    "lazy imports": _lazy_imports,
    "warning": _warn,
    "memory": _much_memory,
    "optimizer": _optimizer,
    "platform": lambda: (platform.machine(), os.cpu_count(), os.sched_getaffinity(0)),
    "reading": lambda: (os.stat(__file__), os.listdir(os.path.dirname(__file__)), Path(__file__).read_text()),
}


def refused(arguments: Mapping[str, Any], send: Send) -> dict[str, str]:
    """Forbidden call -> the name of the error it failed with, or that it did not fail."""
    reading, writing = os.pipe()
    line, _ = socket.socketpair()
    install(candidate_policy(os.getpid()))
    return {name: _error_of(step) for name, step in _forbidden(reading, writing, line).items()}


def refused_to_all(arguments: Mapping[str, Any], send: Send) -> dict[str, str]:
    """The same for calls that every child is refused."""
    return {name: _error_of(step) for name, step in _FORBIDDEN_TO_ALL.items()}


def _error_of(step: Callable[[], object]) -> str:
    try:
        step()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except (RuntimeError, ValueError) as error:
        return str(error)
    return "it succeeded"


_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int) -> Callable[[], int]:
    number = number_of(name, platform.machine())

    def call() -> int:
        if number is None:
            raise OSError(errno.ENOSYS, "not here")
        result: int = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
        if result < 0:
            raise OSError(ctypes.get_errno(), name)
        return result

    return call


def _forbidden(reading: int, writing: int, line: socket.socket) -> dict[str, Callable[[], object]]:
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    keeper = os.getppid()
    return {
        **_FORBIDDEN_TO_ALL,
        "fork": os.fork,
        "thread": lambda: threading.Thread(target=print).start(),
        "execute": lambda: os.execv("/bin/true", ["true"]),
        "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "vfork": _call("vfork"),
        "create": lambda: os.open("new", os.O_CREAT | os.O_WRONLY),
        "create to read": lambda: os.open("new", os.O_CREAT),
        "unnamed file": lambda: os.open(".", os.O_TMPFILE | os.O_RDWR),
        "creat": _call("creat", address, 0o600),
        "write to a file": lambda: os.open("/dev/null", os.O_WRONLY),
        "truncate": lambda: os.open("there", os.O_TRUNC),
        "openat2": lambda: _libc_result(437, -100, address, address, 24),
        "folder": lambda: os.mkdir("folder"),
        "fifo": lambda: os.mkfifo("fifo"),
        "link": lambda: os.symlink("a", "b"),
        "hard link": lambda: os.link("there", "b"),
        "remove": lambda: os.unlink("there"),
        "rename": lambda: os.rename("there", "b"),
        "mode": lambda: os.chmod("there", 0o777),
        "times": lambda: os.utime("there"),
        "extended attribute": lambda: os.setxattr("there", "user.x", b""),
        "unix socket": lambda: socket.socket(socket.AF_UNIX),
        "pair of sockets": lambda: socket.socketpair(),
        "bind": lambda: line.bind("\0name"),
        "listen": lambda: line.listen(),
        "connect": lambda: line.connect("\0name"),
        "pipe": os.pipe,
        "signal the keeper": lambda: os.kill(keeper, signal.SIGKILL),
        "signal everybody": lambda: os.kill(-1, signal.SIGKILL),
        "signal a thread of the keeper": _call("tgkill", keeper, keeper, signal.SIGKILL),
        "signal any thread": _call("tkill", keeper, signal.SIGKILL),
        "handle of the keeper": lambda: os.pidfd_open(keeper),
        "signals of a descriptor": lambda: fcntl.fcntl(reading, fcntl.F_SETOWN, keeper),
        "size of a pipe": lambda: fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20),
        "type into a terminal": lambda: fcntl.ioctl(0, 0x5412, b"x"),
        "session": os.setsid,
        "user": lambda: os.setuid(0),
        "raise limits": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
        "limits of the keeper": lambda: resource.prlimit(keeper, resource.RLIMIT_NOFILE, (64, 64)),
        "limits of the keeper, read": lambda: resource.prlimit(keeper, resource.RLIMIT_NOFILE),
        "outlive the keeper": _call("prctl", 1, 0),
        "not dumpable": _call("prctl", 4, 0),
        "another filter": _call("prctl", 22, 2, address),
        "shared memory without a name": lambda: mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_SHARED),
        "priority": lambda: os.nice(-5),
        "processors": lambda: os.sched_setaffinity(0, {0}),
        "change folder": lambda: os.chdir("/"),
        "root folder": lambda: os.chroot("/"),
        "unknown call": lambda: _libc_result(5000),
    }


def _libc_result(number: int, *arguments: int) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), str(number))
    return result


_FORBIDDEN_TO_ALL: dict[str, Callable[[], object]] = {
    "user namespace": _call("unshare", 0x10000000),
    "mount namespace": _call("unshare", 0x00020000),
    "network namespace by clone": _call("clone", 0x40000000 | signal.SIGCHLD, 0, 0, 0, 0),
    "user namespace by clone": _call("clone", 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0),
    "clone3": _call("clone3", 0, 0),
    "setns": _call("setns", 0, 0),
    "vsock": lambda: socket.socket(socket.AF_VSOCK),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "netlink of another protocol": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "crypto": lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET),
    "ipv4": lambda: socket.socket(socket.AF_INET),
    "ipv6": lambda: socket.socket(socket.AF_INET6),
    "vsock with high bits": _call("socket", (1 << 32) | socket.AF_VSOCK, socket.SOCK_STREAM, 0),
    "io_uring": _call("io_uring_setup", 1, 0),
    "keyctl": _call("keyctl", 0, -3, 0),
    "add_key": _call("add_key", 0, 0, 0, 0, -3),
    "bpf": _call("bpf", 0, 0, 0),
    "perf": _call("perf_event_open", 0, 0, -1, -1, 0),
    "userfaultfd": _call("userfaultfd", 1),
    "mount": _call("mount", 0, 0, 0, 0, 0),
    "new mount API": _call("fsopen", 0, 0),
    "umount": _call("umount2", 0, 0),
    "pivot_root": _call("pivot_root", 0, 0),
    "ptrace": _call("ptrace", 0, 0, 0, 0),
    "read another process": _call("process_vm_readv", 1, 0, 0, 0, 0, 0),
    "descriptor of another process": _call("pidfd_getfd", 0, 0, 0),
    "handle of a file": _call("open_by_handle_at", -100, 0, 0),
    "memory file": lambda: os.memfd_create("x"),
    "system v memory": _call("shmget", 0, 4096, 0o1600),
    "kexec": _call("kexec_load", 0, 0, 0, 0),
    "module": _call("finit_module", 0, 0, 0),
    "swap": _call("swapon", 0, 0),
    "clock": _call("clock_settime", 0, 0),
    "personality": _call("personality", 0x0040000),
    "kernel log": _call("syslog", 3, 0, 0),
    "x32": lambda: _libc_result(0x40000000 | 39) if platform.machine() == "x86_64" else _libc_result(5000),
}
