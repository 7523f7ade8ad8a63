"""Hostile candidates, first part: each tries one action that a sandbox layer forbids, and reports the outcome."""

from __future__ import annotations

from dataclasses import dataclass

SYSTEM_CALLS, LANDLOCK = "candidate system call filter", "candidate landlock"
PRIVATE_ROOT, LIMITS = "private root folder", "resource limits"


@dataclass(frozen=True)
class Refused:
    """One attempt.

    Attributes:
        code: the body of a function that makes the attempt; it raises OSError if it is refused.
        error: the error of the attempt behind the boundary.
        layer: the layer that refuses it; a layer of the candidate's own also refuses it without any other layer.
        harmless: it may be made without any layer, and then succeeds or fails for another reason.
    """

    name: str
    code: str
    layer: str = SYSTEM_CALLS
    error: str = "EPERM"
    harmless: bool = False


PRELUDE = """
import ctypes, errno, fcntl, mmap, os, platform, resource, signal, socket, subprocess, sys, threading, time
from poise_git.pipeline.sandbox.system_calls import number_of

_libc = ctypes.CDLL(None, use_errno=True)
PAGE = ctypes.create_string_buffer(4096)
ADDRESS = ctypes.addressof(PAGE)

# Calls that no policy names, on x86_64 and on aarch64.
UNNAMED = {"rt_sigqueueinfo": (129, 138), "setsockopt": (54, 208), "timer_create": (222, 107), "eventfd2": (290, 19),
           "inotify_init1": (294, 26), "timerfd_create": (283, 85), "signalfd4": (289, 74),
           "mlock": (149, 228)}

def call(name, *arguments):
    machine = platform.machine()
    number = UNNAMED[name][machine == "aarch64"] if name in UNNAMED else number_of(name, machine)
    result = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result

def outcome():
    try:
        value = attempt()
    except OSError as error:
        return f"refused with {errno.errorcode[error.errno]}"
    except Exception as error:
        return f"refused with {type(error).__name__}: {error}"
    return f"it succeeded: {value!r:.80}"
"""
ENTRY_POINTS = """
def compute_advantages(*arguments, **keywords):
    raise RuntimeError(outcome())

def policy_loss(*arguments, **keywords):
    raise RuntimeError(outcome())
"""


def attempt(code: str) -> str:
    lines = "".join(f"    {line}\n" for line in code.strip().split("\n"))
    return f"{PRELUDE}\ndef attempt():\n{lines}"


def recipe_text(candidate: Refused) -> str:
    return attempt(candidate.code) + ENTRY_POINTS


def _calls(names: str, *arguments: object) -> tuple[Refused, ...]:
    given = "".join(f", {argument}" for argument in arguments)
    return tuple(Refused(name, f'return call("{name}"{given})') for name in names.split())


_FAMILIES = ("AF_INET", "AF_INET6", "AF_UNIX", "AF_VSOCK", "AF_NETLINK", "AF_PACKET", "AF_ALG")
PROCESSES = (
    Refused("fork", "process = os.fork()\nprocess or os._exit(0)\nreturn os.waitpid(process, 0)", harmless=True),
    Refused("fork-in-c", "process = _libc.fork()\nif process == 0: os._exit(0)\n"
            "if process < 0: raise OSError(ctypes.get_errno(), 'fork')\nreturn os.waitpid(process, 0)", harmless=True),
    Refused("vfork-and-clone", 'return call("clone", signal.SIGCHLD, 0, 0, 0, 0) or os._exit(0)', harmless=True),
    Refused("clone3", 'return call("clone3", ADDRESS, 88)', error="ENOSYS"),
    Refused("thread", "threading.Thread(target=int).start()", error="RuntimeError: can't start new thread",
            harmless=True),
    Refused("exec", 'os.execv("/bin/true", ["true"])'),
    Refused("shell", 'return subprocess.run(["/bin/sh", "-c", "exit 0"])', harmless=True),
    Refused("os-system", 'status = os.system("exit 0")\nif status: raise OSError(errno.EPERM, "system")\nreturn status',
            harmless=True),
    Refused("spawn", 'return os.posix_spawn("/bin/true", ["true"], {})', harmless=True),
    Refused("signal-the-host", "os.kill(os.getppid(), 0)", harmless=True),
    Refused("signal-all", "os.kill(-1, 0)", harmless=True),
    Refused("signal-a-thread-of-the-host", 'call("tgkill", os.getppid(), os.getppid(), 0)', harmless=True),
    Refused("signal-by-queue", 'call("rt_sigqueueinfo", os.getppid(), 0, ADDRESS)'),
    Refused("handle-of-the-host", "return os.pidfd_open(os.getppid())", harmless=True),
    Refused("trace-the-host", 'return call("ptrace", 0x4206, os.getppid(), 0, 0)'),
    Refused("be-traced-by-the-host", 'return call("ptrace", 0, 0, 0, 0)'),
    Refused("read-the-hosts-memory", 'return call("process_vm_readv", os.getppid(), ADDRESS, 1, ADDRESS, 1, 0)'),
    Refused("write-the-hosts-memory", 'return call("process_vm_writev", os.getppid(), ADDRESS, 1, ADDRESS, 1, 0)'),
    Refused("session", "os.setsid()"),
    Refused("outlive-the-host", 'call("prctl", 1, 0, 0, 0, 0)', harmless=True),
    Refused("signals-of-a-descriptor", "fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())", harmless=True),
    Refused("limits-of-the-host", "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (64, 64))"),
)  # fmt: skip
NETWORK = (
    *(Refused(f"socket-{family}", f"return socket.socket(socket.{family}, {kind})")
      for family in _FAMILIES
      for kind in ["socket.SOCK_RAW" if family in ("AF_NETLINK", "AF_PACKET") else
                   "socket.SOCK_SEQPACKET" if family == "AF_ALG" else "socket.SOCK_STREAM"]),
    Refused("pair-of-sockets", "return socket.socketpair()", harmless=True),
    Refused("pipe", "return os.pipe()", harmless=True),
    Refused("abstract-socket", 'call("bind", 3, ADDRESS, 10)'),
    Refused("connect-the-connection", 'call("connect", 3, ADDRESS, 10)'),
    Refused("listen-on-the-connection", 'call("listen", 3, 1)'),
    Refused("accept-on-the-connection", 'call("accept", 3, 0, 0)'),
    Refused("options-of-the-connection", 'call("setsockopt", 3, 1, 7, ADDRESS, 4)'),
    Refused("out-of-band", 'return call("sendto", 3, ADDRESS, 1, socket.MSG_OOB, 0, 0)'),
    Refused("out-of-band-message", 'return call("sendmsg", 3, ADDRESS, socket.MSG_OOB)'),
    Refused("out-of-band-answer", 'return call("recvfrom", 3, ADDRESS, 1, socket.MSG_OOB, 0, 0)'),
    Refused("handle-of-the-trainer", 'return call("getsockopt", 3, socket.SOL_SOCKET, 77, ADDRESS, ADDRESS)'),
)  # fmt: skip
KERNEL = (
    Refused("io-uring", 'return call("io_uring_setup", 1, ADDRESS)', harmless=True),
    Refused("keyctl", 'return call("keyctl", 0, -3, 0)', harmless=True),
    Refused("add-key", 'return call("add_key", 0, 0, 0, 0, -3)', harmless=True),
    Refused("bpf", 'return call("bpf", 0, 0, 0)', harmless=True),
    Refused("perf", 'return call("perf_event_open", 0, 0, -1, -1, 0)', harmless=True),
    Refused("userfaultfd", 'return call("userfaultfd", 1)', harmless=True),
    Refused("user-namespace", 'return call("unshare", 0x10000000)', harmless=True),
    Refused("mount-namespace", 'return call("unshare", 0x00020000)'),
    Refused("enter-a-namespace", 'return call("setns", 0, 0)', harmless=True),
    Refused("mount", 'return call("mount", 0, 0, 0, 0, 0)', harmless=True),
    Refused("new-mount", 'return call("fsopen", 0, 0)', harmless=True),
    Refused("change-root", 'os.chroot("/")', harmless=True),
    Refused("change-folder", 'os.chdir("/")', harmless=True),
    Refused("user", "os.setuid(0)"),
    Refused("groups", "os.setgroups([0])"),
    Refused("priority", "os.nice(-5)"),
    Refused("processors", "os.sched_setaffinity(0, os.sched_getaffinity(0))", harmless=True),
    Refused("personality", 'return call("personality", 0x0040000)', harmless=True),
    Refused("another-filter", 'return call("seccomp", 0, 0, 0)'),
    Refused("undump", 'call("prctl", 4, 0, 0, 0, 0)', harmless=True),
    Refused("timer", 'return call("timer_create", 0, 0, ADDRESS)', harmless=True),
    *_calls("eventfd2 inotify_init1 timerfd_create", 0, 0),
    Refused("signalfd", 'return call("signalfd4", -1, ADDRESS, 8, 0)', harmless=True),
    Refused("kernel-log", 'return call("syslog", 3, 0, 0)'),
    Refused("unknown-call", "if _libc.syscall(ctypes.c_long(5000)) < 0: raise OSError(ctypes.get_errno(), '')",
            error="ENOSYS", harmless=True),
)  # fmt: skip
MEMORY = (
    Refused("memory-file", 'return os.memfd_create("x")', harmless=True),
    Refused("secret-memory", 'return call("memfd_secret", 0)', error="EPERM"),
    Refused("shared-memory", "return mmap.mmap(-1, 4096, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)", harmless=True),
    Refused("huge-pages", 'return call("mmap", 0, 1 << 21, 3, 0x40022, -1, 0)'),
    Refused("system-v-memory", 'return call("shmget", 0x504F4953, 4096, 0o1600)'),
    Refused("system-v-messages", 'return call("msgget", 0x504F4953, 0o1600)'),
    Refused("message-queue", 'return call("mq_open", ADDRESS, 0, 0, 0)', harmless=True),
    Refused("lock-memory", 'return call("mlock", ADDRESS, 4096)', harmless=True),
    Refused("empty-the-page-cache", "os.posix_fadvise(os.open(os.__file__, os.O_RDONLY), 0, 0, 4)", harmless=True),
    Refused("page-out", 'call("madvise", ADDRESS // 4096 * 4096, 4096, 21)', harmless=True),
    Refused("ask-the-page-cache", "return os.preadv(os.open(os.__file__, os.O_RDONLY), [bytearray(1)], 0, 8)",
            harmless=True),
    Refused("count-fetched-pages", "return resource.getrusage(resource.RUSAGE_SELF)", harmless=True),
    Refused("wake-who-maps-the-same-page", 'return call("futex", ADDRESS, 1, 1, 0, 0, 0)', harmless=True),
)  # fmt: skip
FILES = (
    Refused("write-a-file", 'os.close(os.open("new", os.O_CREAT | os.O_WRONLY, 0o600))', harmless=True),
    Refused("unnamed-file", 'os.close(os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600))', harmless=True),
    Refused("folder", 'os.mkdir("folder")', harmless=True),
    Refused("fifo", 'os.mkfifo("fifo")', harmless=True),
    Refused("link", 'os.symlink("/etc/passwd", "link")', harmless=True),
    Refused("hard-link", 'os.link("there", "hard")', harmless=True),
    Refused("remove", 'os.unlink("there")', harmless=True),
    Refused("rename", 'os.rename("there", "elsewhere")', harmless=True),
    Refused("mode", 'os.chmod("there", 0o777)', harmless=True),
    Refused("times", 'os.utime("there")', harmless=True),
    Refused("truncate", 'os.truncate("there", 0)', harmless=True),
    Refused("extended-attribute", 'os.setxattr("there", "user.x", b"")'),
    Refused("lock-a-file", 'with open("/dev/zero") as file: fcntl.flock(file, fcntl.LOCK_EX)', harmless=True),
    Refused("lock-bytes", 'with open("/dev/zero") as file: fcntl.lockf(file, fcntl.LOCK_SH)', harmless=True),
    Refused("open-by-handle", 'return call("open_by_handle_at", -100, ADDRESS, 0)'),
    Refused("its-folder", 'return os.listdir(".")', LANDLOCK, "EACCES", harmless=True),
    Refused("its-environment", 'return open("/proc/self/environ").read()', LANDLOCK, "EACCES", harmless=True),
    Refused("its-memory-as-a-file", 'return open("/proc/self/mem", "rb").read(0)', LANDLOCK, "EACCES", harmless=True),
    Refused("its-descriptors", 'return os.listdir("/proc/self/fd")', LANDLOCK, "EACCES", harmless=True),
    Refused("the-hosts-command-line", 'return open(f"/proc/{os.getppid()}/cmdline").read()', LANDLOCK, "EACCES",
            harmless=True),
    Refused("memory-of-the-machine", 'return open("/proc/meminfo").read(9)', LANDLOCK, "EACCES", harmless=True),
    Refused("users", 'return open("/etc/passwd").read(9)', PRIVATE_ROOT, "ENOENT", harmless=True),
    Refused("hosts", 'return open("/etc/hosts").read(9)', PRIVATE_ROOT, "ENOENT", harmless=True),
    Refused("home-folders", 'return os.listdir("/home")', PRIVATE_ROOT, "ENOENT", harmless=True),
    Refused("keys", 'return os.listdir(os.path.expanduser("~root/.ssh"))', PRIVATE_ROOT, "ENOENT"),
    Refused("services", 'return os.listdir("/run")', PRIVATE_ROOT, "ENOENT", harmless=True),
    Refused("logs", 'return os.listdir("/var")', PRIVATE_ROOT, "ENOENT", harmless=True),
)  # fmt: skip
BOMBS = (
    Refused("memory-bomb", "return [bytearray(1 << 26) for _ in range(1000)]", LIMITS, "MemoryError: "),
    Refused("tensor-bomb", "import torch\nreturn torch.zeros(1 << 36)", LIMITS, "RuntimeError: "),
    Refused("address-bomb", "return mmap.mmap(-1, 1 << 40, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)",
            LIMITS, "ENOMEM", harmless=True),
    Refused("descriptor-bomb", "return [os.dup(0) for _ in range(300)]", LIMITS, "EMFILE", harmless=True),
    Refused("raise-memory", "resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)",
            error="ValueError: not allowed to raise maximum limit"),
    Refused("raise-processor-time", "resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY,) * 2)",
            error="ValueError: not allowed to raise maximum limit"),
)  # fmt: skip

REFUSED = (*PROCESSES, *NETWORK, *KERNEL, *MEMORY, *FILES, *BOMBS)
