from __future__ import annotations

import click

from poise_git.cli.common import json_option, open_experiment, print_json, protocol_option
from poise_git.cli.output import echo


@click.command(name="log", epilog="Example: poise-git -C my-search log    (with plain git: git lineage)")
@protocol_option
@json_option
def command(protocol: str | None, as_json: bool) -> None:
    """Show the tree of candidates with scores and failures.

    U is printed ± its standard error, a gain ± half its 95% interval. A * marks a gain whose interval excludes 0.
    """
    from poise_git.cli.render import candidate_data, reason_lines, tree_lines

    experiment = open_experiment(protocol)
    genealogy, hash_ = experiment.archive.genealogy(), experiment.protocol.hash
    verdicts = experiment.verdicts(genealogy)
    if as_json:
        print_json([candidate_data(candidate, hash_, verdicts) for candidate in genealogy])
        return
    leader = experiment.best(genealogy)
    for line in tree_lines(genealogy, hash_, mark=leader[0].name if leader else None, verdicts=verdicts):
        echo(line)
    for line in reason_lines(verdicts):
        echo(line)
