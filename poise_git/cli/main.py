"""`poise-git`: verbs are loaded when they are called, errors end as one line and an exit code."""

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

# Verb -> the module in this package that holds a command of that name, in the order of a person's first day.
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
# Verbs that only git calls.
INTERNAL = ("hook",)
INTERRUPTED = 130
# What to do about errors of the operating system's.
ADVICE = {
    errno.ENOSPC: "make room; everything archived is kept, and the same command goes on from here",
    errno.EDQUOT: "make room; everything archived is kept, and the same command goes on from here",
    errno.EMFILE: "allow more open files: ulimit -n 1024",
    errno.ENFILE: "end other programs: the machine has no open files left",
    errno.EROFS: "work in a clone of your own: git clone ARCHIVE DIR",
}


class Verbs(click.Group):
    """Loads a verb's module when it is named, so that `poise-git log` does not pay for `evolve`."""

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
    help="Work in the archive at this directory instead of the current one.",
)
@click.pass_context
def cli(context: click.Context, directory: Path) -> None:
    """Discover policy-optimization algorithms for LLM reinforcement learning, in git.

    Every candidate algorithm is a branch, its implementation a diff, its evidence files and notes.

    \b
    Examples:
      poise-git evolve my-search --candidates 10    a whole search, from nothing
      poise-git -C my-search log                    the tree with scores
      git -C my-search lineage                      the same by plain git
      poise-git -C my-search show av-grpo           one candidate and its evidence

    Shell completion: `eval "$(_POISE_GIT_COMPLETE=bash_source poise-git)"` (or zsh_source, fish_source).
    """
    context.obj = directory
    _show_renamed_settings()


def _show_renamed_settings() -> None:
    """Print one line for each, however often a verb reads the file; other warnings stay as Python prints them."""
    show_other = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, SettingRenamed):
            echo(f"warning: {one_line(str(message))}", err=True)
        else:
            show_other(message, category, *place, **more)

    warnings.showwarning = show
    warnings.simplefilter("once", SettingRenamed)


def main() -> None:
    """The program: exit codes are 0 done, 1 failed, 2 wrong usage, 3 budget reached, 130 interrupted."""
    for end in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(end) == signal.SIG_DFL:
            signal.signal(end, signal.default_int_handler)
    try:
        code = cli.main(prog_name="poise-git", standalone_mode=False)
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
        echo("poise-git: interrupted; everything finished is kept, the same command goes on from here", err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:
        # What is left in the buffer would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        advice = ADVICE.get(error.errno or 0, "mend that, and the same command tries again")
        echo(f"poise-git: {one_line(f'{place}{error.strerror or error}')}; {advice}", err=True)
        sys.exit(PoiseError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
