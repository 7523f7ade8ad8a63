"""The `poise-git` program: load a command when it is called, and print an error as one line with an exit code."""

from __future__ import annotations

import errno
import importlib
import io
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from poise_git import __version__
from poise_git.cli.output import echo
from poise_git.errors import PoiseError, SettingRenamed
from poise_git.untrusted.display import one_line

# Each command is a module of this package with the same name, in the order in which a new user needs them.
VERBS = (
    "init",
    "evolve",
    "status",
    "log",
    "show",
    "diff",
    "best",
    "select",
    "directive",
    "context",
    "propose",
    "check",
    "evaluate",
    "reflect",
    "confirm",
    "reproduce",
    "cross",
    "doctor",
    "gpu-check",
)
# Commands that only git calls.
INTERNAL = ("hook",)
INTERRUPTED = 130
# Advice for errors of the operating system.
ADVICE = {
    errno.ENOSPC: "free some disk space and run the same command again; archived results are kept",
    errno.EDQUOT: "free some disk space and run the same command again; archived results are kept",
    errno.EMFILE: "allow more open files: ulimit -n 1024",
    errno.ENFILE: "close other programs; the machine cannot open more files",
    errno.EROFS: "work in your own clone: git clone ARCHIVE DIR",
}


class Verbs(click.Group):
    """Load a command's module when it is called, so that `poise-git log` does not load `evolve`."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS + INTERNAL:
            return None
        command = importlib.import_module(f"poise_git.cli.{name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="poise-git")
@click.option(
    "-C",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("."),
    help="Run as if started in this directory",
)
@click.pass_context
def cli(context: click.Context, directory: Path) -> None:
    """Discover policy-optimization algorithms for LLM reinforcement learning, in git.

    Each candidate algorithm is a branch. Its diff is the implementation; files and notes hold its evidence.

    \b
    Examples:
      poise-git evolve my-search --candidates 10    run a whole search, from scratch
      poise-git -C my-search log                    print the tree with scores
      git -C my-search lineage                      print the same tree with plain git
      poise-git -C my-search show av-grpo           print one candidate and its evidence

    Shell completion: `eval "$(_POISE_GIT_COMPLETE=bash_source poise-git)"` (or zsh_source, fish_source).
    """
    context.obj = directory
    _show_renamed_settings()


def _show_renamed_settings() -> None:
    """Print one line per renamed setting, once per process; Python prints other warnings as usual."""
    show_other = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, SettingRenamed):
            echo(f"warning: {one_line(str(message))}", err=True)
        else:
            show_other(message, category, *place, **more)

    warnings.showwarning = show
    warnings.simplefilter("once", SettingRenamed)


def main() -> None:
    """Run the program. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 budget reached, 130 interrupted."""
    for end in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(end) == signal.SIG_DFL:
            signal.signal(end, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        # Show a character that the terminal's encoding lacks as an escape. A closed stream is None.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(prog_name="poise-git", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        echo(said.getvalue(), err=True, nl=False)
        sys.exit(error.exit_code)
    except PoiseError as error:
        echo(f"poise-git: {one_line(str(error))}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        echo("poise-git: interrupted; finished work is kept, and the same command continues from here", err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:
        # Otherwise Python would write the rest of its buffer at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        advice = ADVICE.get(error.errno or 0, "fix this and run the same command again")
        echo(f"poise-git: {one_line(f'{place}{error.strerror or error}')}; {advice}", err=True)
        sys.exit(PoiseError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
