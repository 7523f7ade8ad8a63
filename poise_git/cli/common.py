"""What the verbs share: opening the archive, options, completion of candidate names, JSON."""

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
    """The archive that `-C` (or the current directory) names; raises NotAnArchive."""
    return Archive.open(directory())


def directory() -> Path:
    found = click.get_current_context().find_root().obj
    assert isinstance(found, Path)
    return found


class PositiveNumber(click.FloatRange):
    """A number above 0 that a sum can be compared with: neither infinity nor NaN, which no sum exceeds."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no number of hours or dollars.", param, ctx)
        return found


def json_option(function: Function) -> Function:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def protocol_option(function: Function) -> Function:
    return click.option(
        "--protocol", metavar="P", default=None, help="A file of protocols/ without its ending (default: poise.yaml's)."
    )(function)


def device_option(function: Function) -> Function:
    return click.option(
        "--device",
        type=click.Choice(["cpu", "cuda"]),
        help="What the testbed trains on in a new archive; kept in its protocols.",
    )(function)


def trust_option(function: Function) -> Function:
    return click.option(
        "--trust",
        is_flag=True,
        help="Run candidates' code in the trainer's own process, without the boundary; recorded with the figures.",
    )(function)


def executor_options(function: Function) -> Function:
    """`executor` and `ray_address`: where runs go, over poise.yaml's."""
    for option in (
        click.option("--ray-address", metavar="ADDRESS", help="A Ray cluster: HOST:PORT or auto (executor.address)."),
        click.option("--executor", metavar="NAME", help="Where runs go: local or ray (poise.yaml: executor.kind)."),
    ):
        function = option(function)
    return function


def complete_candidate(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Candidate names for the shell; nothing where there is no archive."""
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
    """The archive's experiment, for reading; says on stderr where its figures are not of the present objective."""
    from poise_git.experiment import Experiment

    experiment = Experiment.load(open_archive(), protocol=protocol)
    genealogy = experiment.archive.genealogy()
    warn_of_suspicious(experiment, genealogy)
    if stale := experiment.measured_otherwise(genealogy):
        echo(
            f"poise-git: poise.yaml has another objective than when {len(stale)} candidates were measured; "
            f"measure them anew, without training: poise-git reflect {stale[0]}{experiment.protocol_option}",
            err=True,
        )
    return experiment


def warn_of_suspicious(experiment: Experiment, genealogy: Genealogy) -> None:
    """One line on stderr where figures contradict what they are figures of, and what selection makes of them."""
    from poise_git.integrity.verdicts import Mark

    found = {
        name: verdict
        for name, verdict in experiment.verdicts(genealogy).items()
        if verdict.integrity.mark is Mark.SUSPICIOUS
    }
    if not found:
        return
    name, verdict = next(iter(found.items()))
    counted = "it is left out" if verdict.counted is None else "it counts by what its runs give"
    others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    advice = verdict.problems[0].advice if len(found) == 1 else "poise-git doctor"
    echo(f"poise-git: {name} is suspicious{others}: {verdict.integrity.reason}; {counted}; run: {advice}", err=True)
