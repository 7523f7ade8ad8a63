from __future__ import annotations

import click

from poise_git.cli.common import json_option, open_experiment, print_json, protocol_option


@click.command(name="status", epilog="Example: poise-git -C my-search status --json")
@protocol_option
@json_option
def command(protocol: str | None, as_json: bool) -> None:
    """Where the search stands; what differences it can detect."""
    from poise_git.analysis.resolution import resolution
    from poise_git.archive.entries import ROOT, Status
    from poise_git.cli.render import estimate_text, gain_text
    from poise_git.search.nodes import best

    experiment = open_experiment(protocol)
    genealogy = experiment.archive.genealogy()
    hash_ = experiment.protocol.hash
    counts = dict.fromkeys(Status, 0)
    for candidate in genealogy:
        if candidate.name != ROOT:
            counts[candidate.status_under(hash_)] += 1
    leader = best(genealogy, hash_)
    evaluated = experiment.evaluated(genealogy)
    root_utility = evaluated[ROOT][1].utility if ROOT in evaluated else None
    found = resolution(
        [metrics.gain for _, metrics in evaluated.values() if metrics.gain],
        root_utility.value if root_utility else 0.0,
        len(experiment.protocol.seeds),
    )
    rounds = len(experiment.archive.rounds())
    if as_json:
        print_json(
            {
                "archive": str(experiment.archive.root),
                "protocol": {"name": experiment.protocol.name, "hash": hash_, "seeds": list(experiment.protocol.seeds)},
                "directive": experiment.directive,
                "rounds": rounds,
                "candidates": {str(status): count for status, count in counts.items()},
                "best": leader[0].name if leader else None,
                "resolution": found.to_data() if found else None,
            }
        )
        return
    seeds = len(experiment.protocol.seeds)
    click.echo(f"archive     {experiment.archive.root}")
    click.echo(
        f"protocol    {experiment.protocol.name} ({hash_}), {seeds} seeds, backend {experiment.protocol.backend}"
    )
    if experiment.directive:
        click.echo(f"directive   {experiment.directive}")
    click.echo(f"rounds      {rounds}")
    click.echo("candidates  " + ", ".join(f"{count} {status}" for status, count in counts.items()))
    if leader:
        gain = gain_text(leader[1])
        click.echo(
            f"best        {leader[0].name}  U {estimate_text(leader[1].utility)}"
            + (f"  {gain} vs {ROOT}" if gain else "")
        )
    if found:
        share = f" ({found.relative:.0%} of {ROOT}'s)" if found.relative is not None else ""
        click.echo(
            f"resolution  a true difference of {found.detectable:.4f} in U{share} is found beyond two standard errors "
            f"with 80% power;"
        )
        click.echo(
            f"            so are {found.false_positives:.0%} of null differences ({found.seeds} seeds; one paired "
            f"difference deviates by {found.deviation:.4f}, over {found.comparisons} candidates)"
        )
    else:
        click.echo("resolution  unknown until a candidate differs from the root on two seeds: poise-git evolve")
