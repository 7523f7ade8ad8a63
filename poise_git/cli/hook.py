from __future__ import annotations

import sys

import click

from poise_git.cli.common import open_archive
from poise_git.cli.output import echo


@click.command(name="hook", epilog="Example: git stripspace --strip-comments < message | poise-git hook commit-msg")
@click.argument("name", type=click.Choice(["commit-msg", "post-rewrite", "pre-push"]))
def command(name: str) -> None:
    """Run a git hook of the archive; stdin is the input that git gives it."""
    {"commit-msg": _commit_message, "post-rewrite": _post_rewrite, "pre-push": _pre_push}[name]()


def _commit_message() -> None:
    """Check the message of a candidate's commit, on stdin, against the staged algorithm."""
    from poise_git.archive.messages import parse_candidate
    from poise_git.archive.writer import ALGORITHM
    from poise_git.pipeline.checks.message import message_problems

    said = parse_candidate(sys.stdin.read())
    _refuse(message_problems(said, open_archive().staged_text(ALGORITHM)))


def _post_rewrite() -> None:
    """Move notes and evidence to rewritten commits; each line is `OLD NEW`."""
    pairs = [line.rstrip("\n").split(" ")[:2] for line in sys.stdin if line.strip()]
    for name in open_archive().follow(dict(pairs)):
        echo(f"{name}: notes and evidence moved to the new commit if its code is unchanged")


def _pre_push() -> None:
    """Check a push; each line is `LOCAL-REF COMMIT REMOTE-REF COMMIT`, with zeros for a deleted branch."""
    # A branch may be named with a no-break space, which `str.split` without an argument would cut.
    lines = [line.rstrip("\n").split(" ") for line in sys.stdin if line.strip()]
    pushed = {there: commit for _, commit, there, _ in lines if commit.strip("0")}
    findings = open_archive().refuse_push(pushed)
    _refuse(tuple(f"{finding.where}: {finding.what}; {finding.advice}" for finding in findings))


def _refuse(problems: tuple[str, ...]) -> None:
    from poise_git.errors import PoiseError

    for problem in problems:
        echo(problem, err=True)
    if problems:
        click.get_current_context().exit(PoiseError.exit_code)
