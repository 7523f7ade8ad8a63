"""Check the archive, report problems in plain words, and make the repairs that cannot lose anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from poise_git.archive.configure import (
    KEPT,
    configure,
    fetches_notes,
    hook_folder,
    install_hooks,
    missing_hooks,
    missing_settings,
    remotes,
)
from poise_git.archive.conformity import Finding, branch_findings, change_findings, evidence_findings
from poise_git.archive.git import GitFailed, Repository
from poise_git.archive.lock import Lock, hold
from poise_git.archive.notes import KINDS, unreadable_lines
from poise_git.archive.reader import blobs_of, read_description, read_genealogy
from poise_git.archive.refs import (
    CANDIDATES,
    METRICS_NOTES,
    REFLECTION_NOTES,
    TRAJECTORY_NOTES,
)
from poise_git.archive.restoring import fetch_notes, missing_notes, missing_results, restore_notes
from poise_git.archive.rewriting import follow_all
from poise_git.archive.stale import leftover_locks, remove_leftover_locks


def examine(repository: Repository, hooks: Mapping[str, str]) -> tuple[Finding, ...]:
    """All problems of the archive; empty if there are none. `hooks` are the hooks that should be installed."""
    found: list[Finding] = []
    installation = _installation(repository, hooks)
    checks = (_candidates(repository), _notes(repository), missing_notes(repository), missing_results(repository))
    for check in (*checks, installation, _objects(repository)):
        try:
            found += check
        except GitFailed as error:
            found.append(Finding("archive", f"cannot be read: {error}", "fetch the missing objects from a clone"))
    return tuple(found)


def repair(repository: Repository, hooks: Mapping[str, str]) -> None:
    """Restore configuration and hooks, delete leftover lock files, and move notes and evidence to their code.

    Missing notes are fetched, or rebuilt from the evidence branches.
    """
    configure(repository)
    install_hooks(repository, hooks)
    with hold(repository.common_dir, Lock.WRITE):
        remove_leftover_locks(repository)
    fetch_notes(repository)
    follow_all(repository, read_genealogy(repository))
    restore_notes(repository)


def _candidates(repository: Repository) -> Iterator[Finding]:
    genealogy = read_genealogy(repository)
    yield from branch_findings(repository, genealogy)
    for candidate in genealogy:
        if candidate.evidence is None:
            advice = f"evaluate it: poise-git evaluate {candidate.name}"
            yield Finding(CANDIDATES + candidate.name, "no evidence yet", advice)
    yield from change_findings(repository, genealogy)
    yield from evidence_findings(repository, genealogy)


def _notes(repository: Repository) -> Iterator[Finding]:
    genealogy = read_genealogy(repository)
    commits = genealogy.by_commit
    for ref in (METRICS_NOTES, REFLECTION_NOTES, TRAJECTORY_NOTES):
        if not repository.object_id(ref):
            continue
        for path, blob in blobs_of(repository, ref):
            commit = path.replace("/", "")
            # When the code changes, the figures of an earlier commit of a candidate stay with that commit.
            if commit not in commits and read_description(repository, commit).name not in genealogy:
                yield Finding(
                    ref,
                    f"a note on {commit[:12]}, which is not a candidate's commit",
                    f"git notes --ref={ref} show {commit[:12]}",
                )
            entry = repository.read(blob)
            for broken in unreadable_lines(entry[1].decode(errors="replace") if entry else "", KINDS[ref]):
                yield Finding(
                    ref, f"an unreadable line on {commit[:12]}: {broken[:40]}…", f"git notes --ref={ref} edit {commit}"
                )


def _installation(repository: Repository, hooks: Mapping[str, str]) -> Iterator[Finding]:
    advice = "poise-git doctor --repair"
    for key in missing_settings(repository):
        yield Finding(key, "not configured", advice, repairable=True)
    for remote in remotes(repository):
        if not fetches_notes(repository, remote):
            yield Finding(f"remote {remote}", "git fetch would not fetch the archive's notes", advice, repairable=True)
    folder, missing = hook_folder(repository), missing_hooks(repository, hooks)
    if missing and not folder.own:
        yield Finding(
            "hooks",
            f"core.hooksPath leads to {folder.path}, outside this repository: not installed",
            "to install them here: git config --local core.hooksPath .git/hooks && poise-git doctor --repair",
        )
        missing = []
    for hook in missing:
        if hook.kept:
            path = folder.path / hook.name
            yield Finding(
                f"hooks/{hook.name}",
                f"not installed: both {path} and {hook.name}{KEPT} exist",
                f"merge both into {hook.name}{KEPT}; then {advice}",
            )
        else:
            yield Finding(f"hooks/{hook.name}", "not installed", advice, repairable=True)
    for path in leftover_locks(repository):
        yield Finding(str(path), "a killed git process left this lock, which blocks its ref", advice, repairable=True)


def _objects(repository: Repository) -> Iterator[Finding]:
    try:
        repository.run("fsck", "--strict", "--no-dangling", "--no-progress")
    except GitFailed as error:
        yield Finding("objects", str(error), "fetch the missing objects from a clone: git fetch --refetch REMOTE")
