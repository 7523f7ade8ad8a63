"""The layers of the sandbox around a child. Each is tried independently, so a missing one affects no other."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from poise_git.pipeline.sandbox import kernel, landlock, policies, seccomp, view
from poise_git.pipeline.sandbox.allowance import Allowance, Limits

_MEBIBYTE = 1 << 20
_SETTINGS_OF_NAMESPACES = Path("/proc/sys/user")
_PRIVATE = {
    "network namespace": kernel.CLONE_NEWNET,
    "process namespace": kernel.CLONE_NEWPID,
    "mount namespace": kernel.CLONE_NEWNS,
    "ipc namespace": kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS,
}


@dataclass(frozen=True)
class Layer:
    """One layer of the sandbox: whether it is up, and its version or the reason why not."""

    name: str
    up: bool
    detail: str = ""

    def to_data(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Wall:
    """The wall around one run, put up by three calls in three places.

    Call `enter_namespaces` first. Then fork the first process of the process namespace, which calls `become_nobody`.
    Then fork the process that will run the code, which calls `shut`.
    """

    limits: Limits
    scratch: Path
    allowance: Allowance
    require_isolation: bool
    layers: list[Layer] = field(default_factory=list)

    def up(self, name: str) -> bool:
        return any(layer.up for layer in self.layers if layer.name == name)

    @property
    def missing(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if not layer.up)

    def enter_namespaces(self) -> None:
        """Enter a private network, process (for children only), mount and inter-process communication namespace.

        Root can do so directly. Any other user needs a user namespace that owns them.
        """
        if os.geteuid() != 0:
            self.add("user namespace", _enter_user_namespace)
        for name, flags in _PRIVATE.items():
            self.add(name, partial(kernel.unshare, flags))
        if self.allowance.services and self.up("network namespace"):
            self.add("loopback network", kernel.bring_up_loopback)

    def become_nobody(self) -> None:
        """Enter the private root folder, then give up root, then enter a user namespace that the user nobody owns."""
        if self.up("mount namespace"):
            self.add("private root folder", partial(view.enter_private_root, self.scratch, self.allowance))
        else:
            self.layers.append(Layer("private root folder", False, "no mount namespace"))
        if os.geteuid() == 0:
            self.add("unprivileged user", self._leave_root)
            self.add("user namespace", _enter_user_namespace)
        else:
            self.layers.append(Layer("unprivileged user", True, f"uid {os.getuid()}"))

    def shut(self) -> None:
        """Apply limits; give up all capabilities for good, all files except the named ones, and unusual system calls.

        This holds until the process ends.
        """
        self.add("resource limits", self._limit)
        self.add("no new privileges", _forbid_new_privileges)
        self.add("no new namespaces", partial(_forbid_namespaces, own=self.up("user namespace")))
        self.add("empty bounding set", _empty_bounding_set)
        self.add("no capabilities", kernel.drop_capabilities)
        self.add("landlock", self._restrict_files)
        # Last, because it forbids some calls above.
        self.add("system call filter", self._filter_system_calls)

    @property
    def _writable(self) -> tuple[Path, ...]:
        return (self.scratch, *self.allowance.writable)

    def add(self, name: str, step: Callable[[], str | None]) -> None:
        """Put up one layer, and record whether it is up. `step` returns a detail; OSError and ValueError give the
        reason."""
        try:
            self.layers.append(Layer(name, True, step() or ""))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.layers.append(Layer(name, False, " ".join(reason.split())))

    def _leave_root(self) -> str:
        try:
            self._give_files_to(view.NOBODY)
            with _as_user(view.NOBODY):
                shown = (*self.allowance.readable, *self._writable)
                shut_out = next((path for path in shown if not _reachable(path)), None)
            if shut_out is not None:
                raise OSError(f"{shut_out} cannot be reached by users other than root")
            # A user namespace, if available, starts with a full set, and empties it later.
            with suppress(OSError):
                kernel.empty_bounding_set()
            os.setgroups([])
            os.setresgid(view.NOBODY, view.NOBODY, view.NOBODY)
            os.setresuid(view.NOBODY, view.NOBODY, view.NOBODY)
        except OSError:
            # Root without capabilities cannot write other users' files.
            self._give_files_to(os.geteuid())
            raise
        return f"uid {view.NOBODY}"

    def _give_files_to(self, user: int) -> None:
        for top in self._writable:
            for folder, names, files in os.walk(top):
                for name in (".", *names, *files):
                    os.chown(os.path.join(folder, name), user, user, follow_symlinks=False)

    def _limit(self) -> None:
        limits = self.limits
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if _has_proc() else 0
        # A user namespace counts only its own processes; elsewhere the limit covers all of the user's.
        others = 0 if self.up("user namespace") else _tasks()
        if limits.memory_mb is not None:
            _set_limit(resource.RLIMIT_AS, mapped + limits.memory_mb * _MEBIBYTE)
        if limits.processes is not None:
            _set_limit(resource.RLIMIT_NPROC, others + limits.processes)
        if limits.file_mb is not None:
            _set_limit(resource.RLIMIT_FSIZE, limits.file_mb * _MEBIBYTE)
        _set_limit(resource.RLIMIT_NOFILE, limits.open_files)
        _set_limit(resource.RLIMIT_CORE, 0)
        # The kernel should end the run first when the machine's memory runs out.
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        if limits.cpu_seconds is not None:
            # The soft limit's signal distinguishes the CPU limit from other deaths; if it is ignored, the hard limit
            # kills.
            resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 1))

    def _restrict_files(self) -> str:
        readable, writable = [*self.allowance.readable, view.PROCESSES], [*self._writable, view.SINK]
        if self.allowance.services:
            readable += (*view.NAME_FILES, view.MACHINE)
            writable += view.SHARED_FOLDERS
        abi = landlock.restrict(readable, (*writable, *self.allowance.devices), loopback=self.allowance.services)
        return f"ABI {abi}"

    def _filter_system_calls(self) -> str:
        # Device drivers may start programs.
        plain = not (self.allowance.services or self.allowance.devices)
        policy = policies.COMPUTATION_DENIED if plain else policies.SERVICES_DENIED
        seccomp.install(policy)
        return f"{policy.name}, {len(policy.rules)} calls"


def _enter_user_namespace() -> None:
    """Enter a user namespace that maps only the present user, to itself."""
    user, group = os.getuid(), os.getgid()
    # A process that changed its user is not dumpable, and its /proc entries belong to root.
    kernel.process_control(kernel.PR_SET_DUMPABLE, 1)
    kernel.unshare(kernel.CLONE_NEWUSER)
    for file, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path("/proc/self", file).write_text(text)


def _forbid_new_privileges() -> None:
    kernel.process_control(kernel.PR_SET_NO_NEW_PRIVS, 1)


def _forbid_namespaces(own: bool) -> None:
    """Set the number of namespaces to 0 in this process's user namespace, and so in all that would be below it.

    Args:
        own: the user namespace belongs to this run. The number of any other is not changed.
    """
    for file in _SETTINGS_OF_NAMESPACES.glob("max_*_namespaces"):
        if file.read_text().strip() != "0":
            if not own:
                raise OSError("no user namespace of its own")
            file.write_text("0")
    if not (_SETTINGS_OF_NAMESPACES / "max_user_namespaces").exists():
        raise OSError(f"{_SETTINGS_OF_NAMESPACES} does not exist")


def _empty_bounding_set() -> None:
    kernel.empty_bounding_set()
    # A process without the right to lock the bits also cannot regain capabilities by user 0 or by file capabilities.
    with suppress(PermissionError):
        kernel.lock_secure_bits()


def missing(layers: Iterable[Layer]) -> tuple[str, ...]:
    """The names of the layers that a run lacked, sorted, as recorded with its figures."""
    return tuple(sorted(layer.name for layer in layers if not layer.up))


@contextmanager
def _as_user(user: int) -> Iterator[None]:
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)


def _reachable(path: Path) -> bool:
    return os.access(path, os.R_OK, effective_ids=True)


def _has_proc() -> bool:
    return Path("/proc/self/statm").exists()


def _tasks() -> int:
    """All threads of the machine, an upper bound for those of one user."""
    return int(Path("/proc/loadavg").read_text().split()[3].split("/")[1])


def _set_limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))
