"""Is the archive whole? Findings in plain words, and the repairs that cannot lose anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from poise_git.archive.configure import (
    configure,
    fetches_notes,
    install_hooks,
    missing_hooks,
    missing_settings,
    remotes,
)
from poise_git.archive.entries import ROOT
from poise_git.archive.git import GitFailed, Repository
from poise_git.archive.lock import Lock, hold
from poise_git.archive.notes import unreadable_lines
from poise_git.archive.reader import read_genealogy
from poise_git.archive.refs import (
    CANDIDATES,
    EVIDENCE,
    METRICS_NOTES,
    REFLECTION_NOTES,
    TRAJECTORY_NOTES,
    candidate_name,
)
from poise_git.archive.stale import leftover_locks, remove_leftover_locks
from poise_git.archive.writer import ALGORITHM


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: where, what, and what to do; `repairable` by `repair`."""

    where: str
    what: str
    advice: str
    repairable: bool = False


def examine(repository: Repository, hooks: Mapping[str, str]) -> tuple[Finding, ...]:
    """Everything that is wrong with the archive; empty if nothing is. `hooks` are those that should be installed."""
    found: list[Finding] = []
    installation = _installation(repository, hooks)
    for check in (_branches(repository), _commits(repository), _notes(repository), installation, _objects(repository)):
        try:
            found += check
        except GitFailed as error:
            found.append(Finding("archive", f"cannot be read: {error}", "fetch what is missing from a clone"))
    return tuple(found)


def repair(repository: Repository, hooks: Mapping[str, str]) -> None:
    """Restore configuration and hooks, and delete leftover lock files."""
    configure(repository)
    install_hooks(repository, hooks)
    with hold(repository.common_dir, Lock.WRITE):
        remove_leftover_locks(repository)


def _branches(repository: Repository) -> Iterator[Finding]:
    refs = repository.refs(CANDIDATES, EVIDENCE)
    genealogy = read_genealogy(repository)
    for ref in refs:
        name = candidate_name(ref)
        if name is None:
            yield Finding(
                ref, "its name is not one of a candidate (kebab-case)", f"git branch -m {_short(ref)} NEW-NAME"
            )
        elif ref.startswith(EVIDENCE) and CANDIDATES + name not in refs:
            yield Finding(
                ref,
                f"evidence without branch poise/{name} (a writer was killed while adding it)",
                f"go on with the search, or delete it: git branch -D evidence/{name}",
            )
        elif ref.startswith(CANDIDATES) and name not in genealogy:
            yield Finding(ref, "points at another candidate's commit", "commit a change of recipe/algorithm.py on it")
        elif ref.startswith(CANDIDATES) and EVIDENCE + name not in refs:
            yield Finding(ref, "no evidence yet", f"evaluate it: poise-git evaluate {name}")
    for candidate in genealogy:
        if candidate.name != ROOT and not candidate.parents:
            yield Finding(
                CANDIDATES + candidate.name, "descends from no candidate", "rebase it onto one: git rebase --onto"
            )


def _commits(repository: Repository) -> Iterator[Finding]:
    """Candidate commits that change more than the algorithm, against their first parent."""
    genealogy = read_genealogy(repository)
    commits = "".join(f"{candidate.commit}\n" for candidate in genealogy).encode()
    output = repository.text(
        "log", "--stdin", "--no-walk=unsorted", "--diff-merges=first-parent", "--name-only", "--no-renames",
        "--no-show-signature", "-z", "--format=format:%x01%H%x00",
        stdin=commits,
    )  # fmt: skip
    for record in output.split("\x01")[1:]:
        commit, _, files = record.partition("\0")
        others = sorted({file.strip("\n") for file in files.split("\0")} - {"", ALGORITHM})
        if others:
            name = genealogy.by_commit[commit].name
            yield Finding(CANDIDATES + name, f"its commit changes {', '.join(others)}", f"keep it to {ALGORITHM}")


def _notes(repository: Repository) -> Iterator[Finding]:
    commits = {candidate.commit for candidate in read_genealogy(repository)}
    for ref in (METRICS_NOTES, REFLECTION_NOTES, TRAJECTORY_NOTES):
        if not repository.object_id(ref):
            continue
        for line in repository.text("ls-tree", "-r", ref).splitlines():
            (_, _, blob), path = line.split("\t")[0].split(" "), line.split("\t")[1]
            commit = path.replace("/", "")
            if commit not in commits:
                yield Finding(
                    ref,
                    f"a note on {commit[:12]}, which is no candidate's commit",
                    f"git notes --ref={ref} show {commit[:12]}",
                )
            entry = repository.read(blob)
            for broken in unreadable_lines(entry[1].decode(errors="replace") if entry else ""):
                yield Finding(
                    ref, f"an unreadable line on {commit[:12]}: {broken[:40]}…", f"git notes --ref={ref} edit {commit}"
                )


def _installation(repository: Repository, hooks: Mapping[str, str]) -> Iterator[Finding]:
    advice = "poise-git doctor --repair"
    for key in missing_settings(repository):
        yield Finding(key, "not configured", advice, repairable=True)
    for remote in remotes(repository):
        if not fetches_notes(repository, remote):
            yield Finding(f"remote {remote}", "git fetch would not bring the archive's notes", advice, repairable=True)
    for name in missing_hooks(repository, hooks):
        yield Finding(f"hooks/{name}", "not installed", advice, repairable=True)
    for path in leftover_locks(repository):
        yield Finding(str(path), "left behind by a killed git process; it blocks its ref", advice, repairable=True)


def _objects(repository: Repository) -> Iterator[Finding]:
    try:
        repository.run("fsck", "--strict", "--no-dangling", "--no-progress")
    except GitFailed as error:
        yield Finding("objects", str(error), "fetch what is missing from a clone: git fetch --refetch REMOTE")


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/")
