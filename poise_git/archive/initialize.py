"""Create an archive: the template on `main`, the root candidate on top of it, configuration and hooks."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Mapping
from pathlib import Path

from poise_git.archive.configure import configure, install_hooks, remotes
from poise_git.archive.documents import dump_yaml
from poise_git.archive.entries import ROOT, Proposal
from poise_git.archive.git import Repository
from poise_git.archive.messages import describe, format_candidate, format_proposal_added
from poise_git.archive.refs import MAIN, candidate_ref, evidence_ref
from poise_git.archive.writer import ALGORITHM, Change, proposal_path, publish
from poise_git.errors import ArchiveError, NotAnArchive
from poise_git.untrusted import source_text
from poise_git.untrusted.display import one_line

TEMPLATE_AGENT = "template"


def initialize(directory: Path, template: Mapping[str, str | bytes], hooks: Mapping[str, str]) -> Repository:
    """Make an archive of `template` (path -> content) in a new or empty directory, or in a repository without commits.

    If a run is killed, the next run completes it.

    Raises:
        ArchiveError: `directory` is already an archive, is a bare repository, is not empty, or cannot be written.
        NotAnArchive: it is a repository that already has commits.
    """
    if ALGORITHM not in template:
        raise ArchiveError(f"the template has no {ALGORITHM}")
    repository = _prepare(directory.expanduser().resolve())
    configure(repository)
    install_hooks(repository, hooks)
    _write_first_commits(repository, template)
    repository.check_out(MAIN, template)
    return repository


def _prepare(directory: Path) -> Repository:
    """The repository to fill."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        content = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        raise ArchiveError(f"{directory}: {error.strerror}; name another directory") from error
    if {"HEAD", "objects", "refs"} <= set(content):
        raise ArchiveError(f"{directory}: a bare repository; create the archive in a new directory and push it here")
    template: tuple[str, ...] = ()
    if ".git" in content:
        # The user may have configured a template folder with hooks.
        template = ("--template=",)
        repository = Repository.discover(directory)
        repository.refuse_links()
        if repository.object_id(candidate_ref(ROOT)):
            raise ArchiveError(
                f"{directory}: already an archive; continue it: poise-git evolve {shlex.quote(str(directory))}"
            )
        # A kill between two renames can leave these files. Other files are not ours.
        refs = repository.refs().keys()
        if refs and not {evidence_ref(ROOT)} <= refs <= {evidence_ref(ROOT), MAIN}:
            if remotes(repository) and repository.object_id(f"{MAIN}:{ALGORITHM}"):
                fetch = f"poise-git -C {shlex.quote(str(directory))} doctor --repair"
                raise NotAnArchive(f"{directory}: a clone without its candidates; fetch them: {fetch}")
            raise NotAnArchive(f"{directory}: a git repository with its own commits; create the archive elsewhere")
        content.remove(".git")
    if content:
        raise ArchiveError(f"{directory}: not empty (contains {content[0]}); name a new directory")
    # Pin the repository before it exists, so that the environment cannot make git create another one.
    repository = Repository(directory / ".git", directory)
    repository.run("init", "--quiet", *template, options=("-c", "init.defaultBranch=main"))
    repository.run("symbolic-ref", "HEAD", MAIN)
    return repository


def _write_first_commits(repository: Repository, template: Mapping[str, str | bytes]) -> None:
    root = root_proposal(template[ALGORITHM])
    candidate, evidence = candidate_ref(ROOT), evidence_ref(ROOT)

    def build(change: Change) -> None:
        rest = {path: content for path, content in template.items() if path != ALGORITHM}
        base = change.stream.commit("archive: template\n", [], rest)
        algorithm = change.stream.commit(format_candidate(describe(root)), [base], {ALGORITHM: template[ALGORITHM]})
        files = {proposal_path(ROOT): dump_yaml(root.to_data())}
        change.move(evidence, change.stream.commit(format_proposal_added(ROOT), [algorithm], files))
        change.move(MAIN, algorithm)
        change.move(candidate, algorithm)

    publish(repository, [MAIN, evidence, candidate], build)


def root_proposal(algorithm: str | bytes) -> Proposal:
    """The root candidate's proposal; its mechanism is the first paragraph of the algorithm's docstring."""
    text = algorithm.decode(errors="replace") if isinstance(algorithm, bytes) else algorithm
    try:
        documentation = ast.get_docstring(source_text.parse(text)) or ""
    except source_text.SourceRefused:
        documentation = ""
    return Proposal(
        name=ROOT,
        parent="",
        mechanism=one_line(documentation.split("\n\n")[0]).rstrip(".") or "the root algorithm",
        hypothesis="The root. Every other candidate descends from it and is compared with it.",
        family="root",
        agent=TEMPLATE_AGENT,
    )
