"""Fetch an archive into a clone by its address, without any other configuration of the clone.

`git fetch REMOTE` runs programs that the sections `remote.REMOTE`, `core`, `credential` and `url` may name, and `http`
may make it write cookies to any file. The fetch therefore runs in a temporary empty repository, with the user's own
configuration. Git writes the objects to the clone; the clone's refs move afterwards.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from poise_git.archive.command import complaint, run_git
from poise_git.archive.git import GitFailed, Move, Repository
from poise_git.errors import ArchiveError


def fetch(repository: Repository, remote: str, refspecs: Sequence[str]) -> None:
    """Fetch the remote's refs under their own names if they are new here or can be fast-forwarded.

    Raises:
        ArchiveError: the remote cannot be reached, or a branch here has diverged.
    """
    address = repository.setting(f"remote.{remote}.url")
    if not address:
        raise ArchiveError(f"{repository.git_dir}: the remote {remote!r} has no address; set it: git remote set-url")
    with tempfile.TemporaryDirectory(prefix="poise-fetch-") as folder:
        own = Path(folder, "own.git")
        form = repository.text("rev-parse", "--show-object-format")
        _run(("init", "--quiet", "--bare", "--template=", f"--object-format={form}", str(own)), Path(folder), {})
        environment = {"GIT_DIR": str(own), "GIT_OBJECT_DIRECTORY": str(repository.common_dir / "objects")}
        # Git resolves a relative address from the folder where it runs.
        place = repository.work_tree or repository.git_dir
        quiet = ("--quiet", "--no-tags", "--no-auto-maintenance", "--no-write-fetch-head", "--no-recurse-submodules")
        _run(("-c", "core.hooksPath=/dev/null", "fetch", *quiet, "--", address, *refspecs), place, environment)
        listed = _run(("for-each-ref", "--format=%(objectname) %(refname)"), place, environment)
    repository.move_refs(list(_moves(repository, os.fsdecode(listed))))


def _moves(repository: Repository, listed: str) -> Iterator[Move]:
    here = repository.refs()
    for commit, ref in (line.split(" ", 1) for line in listed.split("\n") if line):
        old = here.get(ref)
        # Do not move a branch that a person has checked out.
        if old == commit or ref == repository.head():
            continue
        if old is not None:
            try:
                repository.run("merge-base", "--is-ancestor", old, commit)
            except GitFailed as error:
                raise ArchiveError(f"{ref}: has commits that the remote lacks; rename the branch first") from error
        yield Move(ref, commit, old)


def _run(arguments: Sequence[str], folder: Path, environment: dict[str, str]) -> bytes:
    done = run_git(arguments, folder, environment)
    if done.returncode:
        raise ArchiveError(f"git fetch: {complaint(done.stderr) or f'exit status {done.returncode}'}")
    return done.stdout
