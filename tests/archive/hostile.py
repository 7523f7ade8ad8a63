"""Archives in which every setting and attribute names a program; each program would leave a mark."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

GIT_HOOKS = (
    "pre-commit", "pre-merge-commit", "prepare-commit-msg", "commit-msg", "post-commit", "pre-rebase", "post-checkout",
    "post-merge", "pre-push", "pre-receive", "update", "proc-receive", "post-receive", "post-update", "post-rewrite",
    "reference-transaction", "push-to-checkout", "pre-auto-gc", "fsmonitor-watchman", "post-index-change",
)  # fmt: skip
# Keys whose value git runs, or has a shell run.
COMMANDS = (
    "core.fsmonitor", "core.pager", "core.editor", "sequence.editor", "core.askPass", "core.sshCommand",
    "core.gitProxy", "core.alternateRefsCommand", "diff.external", "diff.evil.textconv", "diff.evil.command",
    "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "merge.evil.driver", "gpg.program",
    "gpg.openpgp.program", "gpg.x509.program", "gpg.ssh.program", "gpg.ssh.defaultKeyCommand",
    "uploadpack.packObjectsHook", "gc.recentObjectsHook", "interactive.diffFilter", "difftool.evil.cmd",
    "mergetool.evil.cmd", "trailer.poise-candidate.command", "trailer.poise-candidate.cmd", "remote.origin.uploadpack",
    "remote.origin.receivepack", "pager.log", "pager.diff", "pager.show", "pager.config", "pager.status",
)  # fmt: skip
SWITCHES = {
    "log.showSignature": "true",
    "diff.ignoreSubmodules": "all",
    "commit.gpgSign": "true",
    "tag.gpgSign": "true",
    "protocol.allow": "always",
    "protocol.ext.allow": "always",
    "diff.submodule": "diff",
    "submodule.recurse": "true",
    "status.submoduleSummary": "true",
    "diff.tool": "evil",
    "color.ui": "always",
    "gc.auto": "1",
}
SIGNATURE = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n iQ==\n -----END PGP SIGNATURE-----\n"


def arm(root: Path, marks: Path) -> None:
    """Configure a program for everything that git can run in `root`; each program touches a file in `marks`."""
    marks.mkdir()
    git_dir = Path(_git(root, "rev-parse", "--absolute-git-dir").strip())
    programs = marks.with_name(f"{marks.name}-programs")
    programs.mkdir()
    for key in COMMANDS:
        (programs / key).write_text(f"#!/bin/sh\ntouch {marks}/{key}\nexec cat\n")
        (programs / key).chmod(0o755)
        _git(root, "config", "--local", key, str(programs / key))
    for verb in ("log", "diff", "show", "status", "cat-file", "for-each-ref", "rev-parse", "lineage"):
        _git(root, "config", "--local", f"alias.{verb}", f"!touch {marks}/alias.{verb}")
    _git(root, "config", "--local", "credential.helper", f"!touch {marks}/credential.helper")
    _git(root, "config", "--local", "remote.origin.url", f"ext::touch {marks}/ext")
    for key, value in SWITCHES.items():
        _git(root, "config", "--local", key, value)
    hooks = git_dir / "theirs"
    hooks.mkdir(parents=True)
    for name in GIT_HOOKS:
        for folder in (hooks, git_dir / "hooks"):
            folder.mkdir(exist_ok=True)
            (folder / name).write_text(f"#!/bin/sh\ntouch {marks}/hook.{name}\n")
            (folder / name).chmod(0o755)
    _git(root, "config", "--local", "core.hooksPath", str(hooks))
    (git_dir / "info").mkdir(exist_ok=True)
    (git_dir / "info" / "attributes").write_text("* diff=evil filter=evil merge=evil text\n")


def signed(root: Path, branch: str) -> str:
    """Give the commit of a branch a made-up signature, so that git has something to verify."""
    head, _, message = _git(root, "cat-file", "commit", branch).partition("\n\n")
    done = subprocess.run(
        ["git", "-C", root, "hash-object", "-t", "commit", "-w", "--stdin"],
        input=f"{head}\n{SIGNATURE}\n{message}", capture_output=True, text=True, check=True,
    )  # fmt: skip
    _git(root, "update-ref", f"refs/heads/{branch}", done.stdout.strip())
    return done.stdout.strip()


def marks_in(folder: Path) -> set[str]:
    """The names of the programs that have run since the last call."""
    found = set(os.listdir(folder))
    for name in found:
        (folder / name).unlink()
    return found


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", root, *arguments],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
