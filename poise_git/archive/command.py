"""Start git so that it never runs a program that an archive configures.

A copied folder contains its own `.git/config`, `.git/info/attributes` and hooks. Git runs programs that these name:
fsmonitor, hooks, pagers, editors, filters, textconv, external diffs, signing programs, transports. This module
overrides the fixed keys. Keys with free names (`filter.NAME.clean`, `diff.NAME.textconv`, `remote.NAME.uploadpack`)
cannot be overridden without knowing the names, so this package avoids the commands that read them: diffs are made
without drivers, `archive.work_tree` writes the files of the work tree, and a fetch runs in a temporary repository
(`archive.fetching`). Keys: git-config(1).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from poise_git.archive.gitpython import SECRET, Git
from poise_git.errors import ArchiveError

_OVERRIDES = {
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.attributesFile": "/dev/null",
    "core.pager": "cat",
    "core.editor": "true",
    "sequence.editor": "true",
    "core.askPass": "true",
    "core.alternateRefsCommand": "true",
    # A copied folder may hold a commit graph that gives a commit other parents and files than its object.
    "core.commitGraph": "false",
    "core.sshCommand": "false",
    "credential.helper": "",
    "log.showSignature": "false",
    "merge.verifySignatures": "false",
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
    "push.gpgSign": "false",
    "gpg.program": "false",
    "gpg.openpgp.program": "false",
    "gpg.x509.program": "false",
    "gpg.ssh.program": "false",
    "gpg.ssh.defaultKeyCommand": "false",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "diff.submodule": "short",
    "status.submoduleSummary": "false",
}
# Options before every command except `config` and `rev-parse`, which read the configuration and run nothing.
INERT = tuple(word for key, value in _OVERRIDES.items() for word in ("-c", f"{key}={value}"))
# Environment of every command on the archive itself. Git does not fetch the objects that a partial clone lacks, because
# the fetch would run programs that the remote's section names. Git also ignores refs/replace.
INERT_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "GIT_EDITOR": "true",
    "GIT_PAGER": "cat",
}
# Options of a command that compares commits. Other forms of `--submodule` run git inside the submodule. Without
# `--ignore-submodules=none` a configuration may hide submodules.
PLAIN_DIFF = ("--no-ext-diff", "--no-textconv", "--submodule=short", "--ignore-submodules=none", "--no-color")

# Git variables that a caller may set: the folders that git may search, and the user's configuration. Git's other
# variables would redirect it. For example, a hook gets GIT_DIR and GIT_INDEX_FILE.
_KEPT = re.compile(
    r"GIT_(CEILING_DIRECTORIES|DISCOVERY_ACROSS_FILESYSTEM|EXEC_PATH|TEST_ASSUME_DIFFERENT_OWNER"
    r"|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|PARAMETERS|COUNT|KEY_\d+|VALUE_\d+))"
)
_NO_GIT = "git is not installed or not on PATH: install git 2.36 or newer"


def clean_environment() -> dict[str, str]:
    """The caller's environment, in English, without secrets and without variables that redirect git."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if (not name.startswith("GIT_") or _KEPT.fullmatch(name)) and not SECRET.search(name)
    }
    return {**kept, "LANGUAGE": "C", "LC_ALL": "C"}


def run_git(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run git in `folder`, on the repository that it finds there, if any; the caller checks the exit status.

    Raises ArchiveError if git is not installed.
    """
    command = [Git.GIT_PYTHON_GIT_EXECUTABLE or "git", "-C", str(folder), *arguments]
    variables = {**clean_environment(), "GIT_TERMINAL_PROMPT": "0", **(environment or {})}
    try:
        return subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, capture_output=True)
    except FileNotFoundError as error:
        raise ArchiveError(_NO_GIT) from error


def complaint(errors: bytes) -> str:
    """The error output of git, as one line."""
    lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
    return next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "")


def users_configuration(pattern: str) -> tuple[tuple[str, str], ...]:
    """Keys and values of the user's own configuration that match a regular expression, in git's order.

    These are the system's and the user's files and the caller's command line options, never a repository's file.

    Raises:
        ArchiveError: a file cannot be read.
    """
    # `/` is not in a repository; if it is, the entries of that repository have their own scope.
    done = run_git(("config", "--show-scope", "--null", "--get-regexp", pattern), Path("/"))
    if done.returncode not in (0, 1):
        raise ArchiveError(f"git config: {complaint(done.stderr)}; correct the file that it names")
    fields = done.stdout.decode(errors="surrogateescape").split("\0")
    entries = zip(fields[::2], fields[1::2], strict=False)
    pairs = (entry.partition("\n") for scope, entry in entries if scope in ("system", "global", "command"))
    return tuple((key, value) for key, _, value in pairs)
