from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poise_git.cli.common import json_option, open_experiment, print_json, protocol_option
from poise_git.cli.output import echo

if TYPE_CHECKING:
    from poise_git.analysis.resolution import Detectable, Resolution


@click.command(name="status", epilog="Example: poise-git -C my-search status --json")
@protocol_option
@json_option
def command(protocol: str | None, as_json: bool) -> None:
    """Show the state of the search and the differences it can detect."""
    from poise_git.analysis.resolution import resolution
    from poise_git.archive.entries import ROOT, Status
    from poise_git.archive.spending import spent
    from poise_git.cli.render import score_text
    from poise_git.cli.verdict import prediction_lines, unproven_text

    experiment = open_experiment(protocol)
    genealogy = experiment.archive.genealogy()
    hash_ = experiment.protocol.hash
    counts = dict.fromkeys(Status, 0)
    for candidate in genealogy:
        if candidate.name != ROOT:
            counts[candidate.status_under(hash_)] += 1
    leader = experiment.best(genealogy)
    evaluated = experiment.evaluated(genealogy)
    root_utility = evaluated[ROOT][1].utility if ROOT in evaluated else None
    found = resolution(
        [metrics.gain for _, metrics in evaluated.values() if metrics.gain],
        # A share of a value that may be negative has no meaning.
        root_utility.value if root_utility and experiment.objective.is_overall else None,
        len(experiment.protocol.seeds),
        experiment.noise,
    )
    rounds, paid = experiment.archive.count_rounds(), spent(experiment.archive)
    if as_json:
        print_json(
            {
                "archive": str(experiment.archive.root),
                "protocol": {"name": experiment.protocol.name, "hash": hash_, "seeds": list(experiment.protocol.seeds)},
                "directive": experiment.directive,
                "objective": experiment.objective.stated.to_data(),
                "rounds": rounds,
                "candidates": {str(status): count for status, count in counts.items()},
                "best": leader[0].name if leader else None,
                "spent_usd": paid,
                "resolution": found.to_data() if found else None,
                "predicts": experiment.protocol.predicts or None,
            }
        )
        return
    seeds = len(experiment.protocol.seeds)
    echo(f"archive     {experiment.archive.root}")
    echo(f"protocol    {experiment.protocol.name} ({hash_}), {seeds} seeds, backend {experiment.protocol.backend}")
    if experiment.directive:
        echo(f"directive   {experiment.directive}")
    echo(f"objective   {experiment.objective.description}")
    if unproven := unproven_text(experiment):
        echo(f"            ({unproven})")
    echo(f"rounds      {rounds}")
    echo("candidates  " + ", ".join(f"{count} {status}" for status, count in counts.items()))
    if paid:
        echo(f"cost        ${paid:.2f} for calls")
    if leader:
        echo(f"best        {leader[0].name}  {score_text(leader[0], hash_)}")
    if found:
        echo("resolution  " + "\n            ".join(_resolution_lines(found, experiment.protocol.name)))
    else:
        echo("resolution  unknown until a candidate and the root have run on two seeds; run: poise-git evolve")
    echo("\n".join(prediction_lines("predicts    ", experiment.protocol, indent=12)))


def _resolution_lines(found: Resolution, protocol: str) -> list[str]:
    from poise_git.analysis.resolution import Source
    from poise_git.archive.entries import ROOT
    from poise_git.cli.render import table_lines

    number = f"{found.own.seeds} seed" + ("" if found.own.seeds == 1 else "s")
    if found.own.difference is None:
        first = f"{number} cannot detect any difference: the noise of the protocol is unknown"
    else:
        share = f" ({found.relative:.0%} of {ROOT}'s)" if found.relative is not None else ""
        first = f"{number} can detect differences of {found.own.difference:.4f} in U{share}"
    header = [
        "seeds",
        *(f"[{row.seeds}]" if row.seeds == found.own.seeds else f"{row.seeds}" for row in found.by_seeds),
    ]
    seen = ["difference", *(_difference(row) for row in found.by_seeds)]
    one = found.comparisons == 1
    here = "1 candidate" if one else f"{found.comparisons} candidates"
    if found.source is Source.ARCHIVE:
        source = f"measured on {here} of this archive"
    else:
        source = f"stated in protocols/{protocol}.yaml; " + (
            f"{here} of this archive {'is' if one else 'are'} too few" if found.comparisons else "not measured here yet"
        )
    return [
        first,
        *table_lines(header, [seen]),
        "difference: the smallest true difference detected with 80% power, at 5% false alarms",
        f"standard deviation of one seed's difference from {ROOT}: {found.deviation:.4f} ({source})",
    ]


def _difference(row: Detectable) -> str:
    return "–" if row.difference is None else f"{row.difference:.4f}"
