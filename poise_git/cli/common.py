"""Shared code of the commands: the archive, options, completion of candidate names, JSON."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from poise_git.archive import Archive
from poise_git.cli.output import echo, echo_json
from poise_git.errors import PoiseError

if TYPE_CHECKING:
    from poise_git.archive.genealogy import Genealogy
    from poise_git.experiment import Experiment

Function = TypeVar("Function", bound=Callable[..., Any])


def open_archive() -> Archive:
    """Open the archive at `-C`, or at the current directory. Raises NotAnArchive."""
    return Archive.open(directory())


def directory() -> Path:
    found = click.get_current_context().find_root().obj
    assert isinstance(found, Path)
    return found


class PositiveNumber(click.FloatRange):
    """A finite number above 0. Infinity and NaN cannot be a budget, because no sum exceeds them."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


def json_option(function: Function) -> Function:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document")(function)


def protocol_option(function: Function) -> Function:
    return click.option(
        "--protocol",
        metavar="P",
        default=None,
        help="Protocol: a file in protocols/, without .yaml (default: protocol in poise.yaml)",
    )(function)


def device_option(function: Function) -> Function:
    return click.option(
        "--device",
        type=click.Choice(["cpu", "cuda"]),
        help="Device of the testbed in a new archive; stored in its protocols",
    )(function)


def trust_option(function: Function) -> Function:
    return click.option(
        "--trust",
        is_flag=True,
        help="Run candidates in the trainer's process, without the boundary; the runs record this",
    )(function)


def executor_options(function: Function) -> Function:
    """Add `--executor` and `--ray-address`, which override poise.yaml."""
    for option in (
        click.option(
            "--ray-address",
            metavar="ADDRESS",
            help="Ray cluster: HOST:PORT or auto (default: executor.address in poise.yaml)",
        ),
        click.option(
            "--executor",
            metavar="NAME",
            help="Where to train and evaluate: local or ray (default: executor.kind in poise.yaml)",
        ),
    ):
        function = option(function)
    return function


def complete_candidate(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete candidate names for the shell; empty outside an archive."""
    try:
        genealogy = Archive.open(context.find_root().params.get("directory") or Path()).genealogy()
    except PoiseError:
        return []
    return [candidate.name for candidate in genealogy if candidate.name.startswith(incomplete)]


def candidate_argument(name: str = "candidate", *, required: bool = True) -> Callable[[Function], Function]:
    return click.argument(name, shell_complete=complete_candidate, required=required)


def print_json(document: Any) -> None:
    echo_json(document, indent=2)


def open_experiment(protocol: str | None) -> Experiment:
    """Load the archive's experiment for reading; warn on stderr if figures belong to an earlier objective."""
    from poise_git.experiment import Experiment

    experiment = Experiment.load(open_archive(), protocol=protocol)
    genealogy = experiment.archive.genealogy()
    warn_of_suspicious(experiment, genealogy)
    if stale := experiment.stale_candidates(genealogy):
        echo(
            f"poise-git: the objective in poise.yaml has changed since {_count(len(stale))} scored; "
            f"rescore without training: poise-git reflect {stale[0]}{experiment.protocol_option}",
            err=True,
        )
    return experiment


def _count(candidates: int) -> str:
    return "1 candidate was" if candidates == 1 else f"{candidates} candidates were"


def warn_of_suspicious(experiment: Experiment, genealogy: Genealogy) -> None:
    """Warn on stderr, in one line, about figures that contradict their runs, and say whether they count."""
    from poise_git.integrity.verdicts import Mark

    found = {
        name: verdict
        for name, verdict in experiment.verdicts(genealogy).items()
        if verdict.integrity.mark is Mark.SUSPICIOUS
    }
    if not found:
        return
    name, verdict = next(iter(found.items()))
    counted = "it does not count" if verdict.counted is None else "the figures of its runs count"
    others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    advice = verdict.problems[0].advice if len(found) == 1 else "poise-git doctor"
    echo(f"poise-git: {name} is suspicious{others}: {verdict.integrity.reason}; {counted}; run: {advice}", err=True)
