"""An environment like a container: run a command without namespaces or other layers of the sandbox.

    python -m tests.containers [--user] [--without CALL]... [--] COMMAND...

Everything is real: the command runs in a user namespace in which no other can be created, and root has only the
capabilities that a container gives it. `--without` refuses a system call as a container's own filter does, for
example landlock_create_ruleset or seccomp. No setting of the machine changes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from poise_git.pipeline.sandbox import kernel
from poise_git.pipeline.sandbox.seccomp import ALWAYS, UNKNOWN, Policy, install, rules
from poise_git.user.choices import MISSING_LAYERS_VARIABLE

# The capabilities of root in a container, as docker(1) gives them; see capabilities(7) for the numbers.
_CONTAINER_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
_LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")
_PR_CAPBSET_DROP = 24
_EVERYBODY = (1 << 32) - 1
_PERSON = 12345


class NoContainer(Exception):
    """This machine allows no user namespace, so it cannot imitate a container."""


def require() -> None:
    """Skip the calling test if no container is available."""
    tried = subprocess.run(command("true"), env=environment(), capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(tried.stderr.strip() or "no container here")


def command(*arguments: str, user: bool = False, without: Sequence[str] = ()) -> list[str]:
    """The command line that runs `arguments` in a container, with the calling process's modules."""
    options = [*(["--user"] if user else []), *(option for call in without for option in ("--without", call))]
    return [sys.executable, "-m", "tests.containers", *options, "--", *arguments]


def environment(**more: str) -> dict[str, str]:
    """The calling process's environment, with its module path and without the user's choice about missing layers."""
    own = {name: value for name, value in os.environ.items() if name != MISSING_LAYERS_VARIABLE}
    paths = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
    return {**own, "PYTHONPATH": os.pathsep.join(paths), "GIT_CONFIG_GLOBAL": os.devnull, **more}


def enter(*, user: bool, without: Sequence[str]) -> None:
    """Move this process permanently into a namespace in which no user namespace can be created.

    Root keeps a container's capabilities there, or, with `user`, becomes an ordinary user. An ordinary user stays
    one.

    Raises:
        NoContainer: no container is available.
    """
    try:
        _enter_namespace()
        # The limit of this namespace; the machine's own number differs.
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
    except OSError as error:
        raise NoContainer(str(error)) from error
    if os.geteuid() != 0:
        kernel.empty_bounding_set()
        kernel.drop_capabilities()
    elif user:
        os.setgroups([])
        os.setresgid(_PERSON, _PERSON, _PERSON)
        os.setresuid(_PERSON, _PERSON, _PERSON)
    else:
        _be_root_of_a_container()
    if without:
        kernel.process_control(kernel.PR_SET_NO_NEW_PRIVS, 1)
        install(Policy("container", rules(UNKNOWN, list(without)), others=ALWAYS))


def _enter_namespace() -> None:
    """A user namespace with the same users, as far as this process may map them."""
    user, group, process = os.geteuid(), os.getegid(), os.getpid()
    reading, writing = os.pipe()
    mapper = os.fork()
    if mapper == 0:
        # Root maps all outside users; another user maps only itself.
        os.read(reading, 1)
        folder = Path("/proc", str(process))
        try:
            if user == 0:
                for file in ("uid_map", "gid_map"):
                    (folder / file).write_text(f"0 0 {_EVERYBODY}")
            else:
                (folder / "setgroups").write_text("deny")
                (folder / "uid_map").write_text(f"{user} {user} 1")
                (folder / "gid_map").write_text(f"{group} {group} 1")
        except OSError:
            os._exit(1)
        os._exit(0)
    try:
        kernel.unshare(kernel.CLONE_NEWUSER)
    finally:
        os.write(writing, b".")
        _, status = os.waitpid(mapper, 0)
    if status:
        raise OSError("the users of a user namespace cannot be mapped")


def _be_root_of_a_container() -> None:
    """The bounding set takes effect with the next program that is executed."""
    for number in range(int(_LAST_CAPABILITY.read_text()) + 1):
        if number not in _CONTAINER_CAPABILITIES:
            kernel.process_control(_PR_CAPBSET_DROP, number)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--user", action="store_true")
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    try:
        enter(user=asked.user, without=asked.without)
    except NoContainer as error:
        sys.exit(f"no container here: {error}")
    os.execvp(asked.command[0], asked.command)


if __name__ == "__main__":
    main()
