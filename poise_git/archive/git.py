"""The only place that runs git: object reads in batch, object writes in one stream, refs in one transaction.

It uses GitPython's command layer only, because the object layer is slow in loops. Every command is pinned to one
repository, so that a caller's environment (a git hook sets GIT_DIR and GIT_INDEX_FILE) cannot redirect it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from poise_git.archive.command import INERT, INERT_ENVIRONMENT, PLAIN_DIFF, complaint
from poise_git.archive.discovery import find_repository
from poise_git.archive.gitpython import SECRET, Git, GitCommandNotFound
from poise_git.archive.links import refuse_links_outside
from poise_git.archive.stream import CommitStream
from poise_git.archive.work_tree import index_lines, write_file
from poise_git.errors import ArchiveError, RefMoved

NO_OBJECT = "0" * 40
# Git flushes objects and refs to disk before a ref moves. New objects stay in the pack that fast-import writes: one
# flush instead of nine for loose objects.
DURABLE = ("-c", "core.fsync=committed", "-c", "fastimport.unpackLimit=0")
# Git searches every pack for every object. Above these numbers small packs and loose objects are merged.
MANY_PACKS, MANY_LOOSE = 50, 6700
# Commands that start no other program and must read the configuration without our overrides.
TELLING = ("config", "rev-parse")
# Commands that write to files whose names could be links.
WRITING = ("commit-graph", "fast-import", "pack-refs", "repack", "update-index", "update-ref")
# The largest object, in bytes, that is read into memory. The largest legitimate one is a note with many runs.
OBJECT_LIMIT = 256 << 20
# git merge-file exits with the number of conflicts, at most 127, or with more if it could not merge at all.
_CONFLICTS = range(1, 128)
# The error of git-update-ref if a branch would be a folder of another, or the reverse.
_IN_THE_WAY = re.compile(r"cannot lock ref '(.+?)': '(.+?)' exists; cannot create")
_SHA1_LENGTH = 40
_REFETCH = "get it from a clone: git fetch --refetch REMOTE"
FALLBACK_IDENTITY = ("poise-git", "poise-git@localhost")
_UNSAFE_IN_IDENTITY = re.compile(r"[<>\n\0]")

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Move:
    """One ref update from `old` (None: it must not exist) to `new`."""

    ref: str
    new: str
    old: str | None


class GitFailed(ArchiveError):
    """A git command failed. The message is git's last line; `status` is its exit status, if it has ended."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RefLocked(RefMoved):
    """The `.lock` file of a ref exists: another git process is moving it, or died while moving it."""


def _in_the_way(wanted: str, found: str) -> str:
    branch = found.removeprefix("refs/heads/")
    if branch == found:
        return f"{found} is in the way of {wanted}; remove it: git update-ref -d {shlex.quote(found)}"
    rename = f"git branch -m {shlex.quote(branch)} {shlex.quote(branch.replace('/', '-'))}"
    return f"the branch {branch} is in the way of {wanted.removeprefix('refs/heads/')}; rename it: {rename}"


class Repository:
    """One git repository, bare or not, main or linked worktree."""

    def __init__(self, git_dir: Path, work_tree: Path | None) -> None:
        self.git_dir, self.work_tree = git_dir, work_tree
        link = git_dir / "commondir"
        self.common_dir = (git_dir / link.read_text().strip()).resolve() if link.is_file() else git_dir
        self._git = Git(work_tree or git_dir)
        environment = {
            "GIT_DIR": str(git_dir),
            "GIT_COMMON_DIR": str(self.common_dir),
            "GIT_OBJECT_DIRECTORY": str(self.common_dir / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
            "GIT_INDEX_FILE": str(git_dir / "index"),
            "GIT_NAMESPACE": "",
            **INERT_ENVIRONMENT,
        }
        environment |= {name: "" for name in os.environ if SECRET.search(name)}
        if work_tree is not None:
            environment["GIT_WORK_TREE"] = str(work_tree)
        self._git.update_environment(**environment)
        self._git.set_persistent_git_options(c=[word for word in INERT if word != "-c"])
        self._looked_for_links = False
        # GitPython's persistent `cat-file` answers one query at a time.
        self._asking = threading.Lock()

    @classmethod
    def discover(cls, path: Path) -> Repository:
        """The repository that contains `path`; raises the errors of `discovery.find_repository`."""
        place = find_repository(path)
        return cls(place.git_dir, place.work_tree)

    # Commands.

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run one git command to its end and return its output; `environment` overrides the pinned variables.

        `command.INERT` keeps git from running programs that the repository configures.

        The command runs in its own session: this process handles an interrupt from the terminal between two
        commands, and git is not interrupted in the middle of one.

        Raises:
            GitFailed: it exited with an error.
            ArchiveError: git is not installed.
        """
        inert = () if arguments[0] in TELLING else INERT
        if arguments[0] in WRITING:
            self.refuse_links()
        try:
            process = self._git.execute(
                [Git.GIT_PYTHON_GIT_EXECUTABLE or "git", *inert, *options, *arguments],
                istream=subprocess.PIPE,
                as_process=True,
                start_new_session=True,
                env=dict(environment or {}),
            )
        except GitCommandNotFound as error:
            raise ArchiveError("git is not installed or not on PATH: install git 2.36 or newer") from error
        running = process.proc
        assert running is not None
        with running:
            output, errors = running.communicate(stdin)
        if running.returncode != 0:
            said = complaint(errors) or f"exit status {running.returncode}"
            raise GitFailed(f"{self.git_dir}: git {arguments[0]}: {said}", running.returncode)
        return bytes(output)

    def refuse_links(self) -> None:
        """Check once, before the first write; raise ArchiveError if git would write through a link."""
        if not self._looked_for_links and self.git_dir.exists():
            refuse_links_outside(self.git_dir, self.common_dir)
            self._looked_for_links = True

    def text(self, *arguments: str, stdin: bytes = b"") -> str:
        """`run`, decoded, without the last newline."""
        return self.run(*arguments, stdin=stdin).decode(errors="replace").removesuffix("\n")

    def lines(self, *arguments: str) -> list[str]:
        """The lines of `text`. Only a line feed ends a line: names and messages may hold U+2028 and its kind."""
        return [line for line in self.text(*arguments).split("\n") if line]

    # Reading.

    def staged(self, path: str) -> str | None:
        """The file `path` in the index as text; None if there is none.

        Only this method reads the caller's index: a hook of `git commit -a` finds the new commit in GIT_INDEX_FILE.
        """
        index = os.environ.get("GIT_INDEX_FILE")
        place = str((self.work_tree or self.git_dir) / index) if index else str(self.git_dir / "index")
        with suppress(GitFailed):
            staged = self.run("cat-file", "blob", f":{path}", environment={"GIT_INDEX_FILE": place})
            return staged.decode(errors="replace")
        return None

    def object_id(self, name: str) -> str | None:
        """The id of the object that a revision, ref or `revision:path` names, or None. No process starts."""
        found = self._ask(name, lambda: self._git.get_object_header(name))
        return os.fsdecode(found[0]) if found else None

    def read(self, name: str) -> tuple[str, bytes] | None:
        """Type and content of the object that `name` names, or None. No process starts.

        Raises:
            ArchiveError: it has more than OBJECT_LIMIT bytes (a pack can hold it in a thousandth of that), or its
                content does not have its id.
        """

        def question() -> tuple[str, str, int, bytes]:
            found, kind, size, stream = self._git.stream_object_data(name)
            return os.fsdecode(found), os.fsdecode(kind), size, stream.read() if size <= OBJECT_LIMIT else b""

        found = self._ask(name, question)
        if found is None:
            return None
        object_id, kind, size, content = found
        if size > OBJECT_LIMIT:
            # Otherwise the rest of the output would be read as the next answer.
            self._git.clear_cache()
            raise ArchiveError(f"{name}: {size} bytes; the limit is {OBJECT_LIMIT}")
        # Git does not compare when it reads, and verdicts on a candidate's code are about the id of its file.
        if not _is_named(object_id, kind, content):
            raise ArchiveError(f"{name}: the content of object {object_id[:12]} is not what its name says; {_REFETCH}")
        return kind, content

    def refs(self, *patterns: str) -> dict[str, str]:
        """Every ref under the patterns (prefixes) and the object it points at, by name."""
        lines = self.lines("for-each-ref", "--format=%(objectname) %(refname)", *patterns)
        return {ref: commit for commit, ref in (line.split(" ", 1) for line in lines)}

    def symbolic_refs(self, *patterns: str) -> dict[str, str]:
        """Every symbolic ref under the patterns (prefixes), and the ref that it names."""
        lines = self.lines("for-each-ref", "--format=%(symref) %(refname)", *patterns)
        return {ref: named for named, ref in (line.split(" ", 1) for line in lines) if named}

    def setting(self, key: str) -> str | None:
        """The value of `key` in the repository's or the user's configuration; None if it is not set."""
        with suppress(GitFailed):
            return self.text("config", "--get", key)
        return None

    def head(self) -> str | None:
        """The ref of the branch that is checked out; None if HEAD is detached."""
        with suppress(GitFailed):
            return self.text("symbolic-ref", "--quiet", "HEAD")
        return None

    # GitPython returns names and types as bytes, although its annotations say text; `fsdecode` accepts both.
    def _ask(self, name: str, question: Callable[[], Answer]) -> Answer | None:
        if not name.strip() or "\n" in name or "\0" in name:
            return None
        with self._asking:
            for attempt in (1, 2):
                try:
                    return question()
                except GitCommandNotFound as error:
                    raise ArchiveError("git is not installed or not on PATH: install git 2.36 or newer") from error
                except (ValueError, OSError) as error:
                    if isinstance(error, ValueError) and "SHA is empty" not in str(error):
                        return None
                    # The persistent process has died, for example by an interrupt. Ask a new one, once.
                    self._git.clear_cache()
                    if attempt == 2:
                        raise GitFailed(f"{self.git_dir}: git cat-file: {' '.join(str(error).split())}") from error
        return None

    def merge_texts(self, base: str, ours: str, theirs: str) -> str | None:
        """Merge three texts as git merges files; None on a conflict. Raises GitFailed."""
        with tempfile.TemporaryDirectory(prefix="poise-") as folder:
            files = [Path(folder, name) for name in ("ours", "base", "theirs")]
            for file, text in zip(files, (ours, base, theirs), strict=True):
                file.write_text(text, encoding="utf-8")
            try:
                return self.run("merge-file", "--quiet", "--stdout", *map(str, files)).decode()
            except GitFailed as failure:
                if failure.status not in _CONFLICTS:
                    raise
        return None

    # Writing.

    @cached_property
    def identity(self) -> str:
        """`Name <address>` of the committer: environment, then configuration, then a fallback."""
        configured: dict[str, str] = {}
        with suppress(GitFailed):
            lines = self.lines("config", "--get-regexp", r"^user\.(name|email)$")
            configured = dict(line.split(" ", 1) for line in lines if " " in line)
        name = os.environ.get("GIT_COMMITTER_NAME") or configured.get("user.name") or FALLBACK_IDENTITY[0]
        address = os.environ.get("GIT_COMMITTER_EMAIL") or configured.get("user.email") or FALLBACK_IDENTITY[1]
        return f"{_UNSAFE_IN_IDENTITY.sub('', name)} <{_UNSAFE_IN_IDENTITY.sub('', address)}>"

    def fast_import(self, stream: CommitStream) -> dict[str, str]:
        """Write the objects of a stream without moving a ref; return the commits by their names in the stream."""
        printed = self.run("fast-import", "--quiet", "--done", stdin=stream.to_bytes(), options=DURABLE)
        return dict(zip(stream.commits, printed.decode().split(), strict=True))

    def move_refs(self, moves: Iterable[Move]) -> None:
        """Move refs in the given order, each only if it still is at `old`. If another writer interferes, none moves.

        Raises:
            RefMoved: a ref is no longer at `old`; no ref has moved.
            RefLocked: the lock file of a ref exists; no ref has moved.
            ArchiveError: an existing ref is in the way of a new one; no ref has moved.
        """
        # A branch of a copied archive may be a symbolic ref: without this option, git would move the ref that it names.
        lines = [f"option no-deref\nupdate {move.ref} {move.new} {move.old or NO_OBJECT}\n" for move in moves]
        script = "".join(["start\n", *lines, "prepare\n", "commit\n"])
        try:
            self.run("update-ref", "--stdin", stdin=script.encode(), options=DURABLE)
        except GitFailed as error:
            if "File exists" in str(error):
                raise RefLocked(str(error)) from error
            if in_the_way := _IN_THE_WAY.search(str(error)):
                raise ArchiveError(_in_the_way(*in_the_way.groups())) from error
            if "cannot lock ref" in str(error):
                raise RefMoved(str(error)) from error
            raise

    def check_out(self, branch: str, paths: Iterable[str]) -> None:
        """Update files of the work tree and the index from `branch` (a full ref), if it is checked out.

        No filter of the repository runs: the files get the bytes of the blobs. Use it for text files only.
        """
        if self.work_tree is None or self.head() != branch:
            return
        entries = []
        for path in paths:
            blob, found = self.object_id(f"{branch}:{path}"), self.read(f"{branch}:{path}")
            if blob and found:
                write_file(self.work_tree, path, found[1])
                entries.append((path, blob))
        self.run("update-index", "-z", "--add", "--index-info", stdin=index_lines(entries), options=DURABLE)

    def add_blob(self, text: str) -> str:
        """Write a file's text as an object, and return its id. No filter of the repository runs."""
        return self.run("hash-object", "-w", "--stdin", stdin=text.encode()).decode().strip()

    def patch(self, of: str, to: str) -> str:
        """The patch between two commits, as git prints it without any configuration."""
        return self.run("diff", *PLAIN_DIFF, "--end-of-options", of, to, "--").decode(errors="replace")

    def roll_up_packs(self) -> None:
        """Merge small packs and loose objects, if there are many, until each pack is twice the size of the next one.

        It leaves deltas and unreferenced objects to `git gc`, because git asks programs that the repository configures
        which unreferenced objects to keep.
        """
        objects = self.common_dir / "objects"
        # Ids are evenly distributed over 256 folders, so one folder is a sample.
        loose = 256 * sum(1 for _ in (objects / "17").glob("*"))
        if len(list((objects / "pack").glob("*.pack"))) > MANY_PACKS or loose > MANY_LOOSE:
            options = (*DURABLE, "-c", "repack.writeBitmaps=false")
            self.run("repack", "--geometric=2", "-d", "-l", "--quiet", "--window=0", options=options)


def _is_named(object_id: str, kind: str, content: bytes) -> bool:
    """Whether the id of an object, SHA-1 or SHA-256, is the hash of its content."""
    named = hashlib.sha1(usedforsecurity=False) if len(object_id) == _SHA1_LENGTH else hashlib.sha256()
    named.update(b"%s %d\0" % (kind.encode(), len(content)))
    named.update(content)
    return named.hexdigest() == object_id
