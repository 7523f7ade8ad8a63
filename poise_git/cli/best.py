from __future__ import annotations

import click

from poise_git.cli.common import json_option, open_experiment, print_json, protocol_option
from poise_git.cli.output import echo


@click.command(name="best", epilog="Example: git cherry-pick -m 1 $(poise-git -C my-search best --path)")
@click.option(
    "--path",
    is_flag=True,
    help="Print the commits after the root up to the best candidate, oldest first",
)
@protocol_option
@json_option
def command(path: bool, protocol: str | None, as_json: bool) -> None:
    """Show the best candidate and its result on fresh seeds."""
    from poise_git.archive.entries import ROOT
    from poise_git.cli.render import candidate_data
    from poise_git.cli.verdict import verdict_lines
    from poise_git.errors import PoiseError
    from poise_git.loop import SearchResult

    experiment = open_experiment(protocol)
    genealogy = experiment.archive.genealogy()
    leader = experiment.best(genealogy)
    if leader is None:
        raise PoiseError("no candidate has been evaluated yet; run: poise-git evolve")
    candidate = leader[0]
    line = genealogy.path(candidate.name)[1:]
    confirmation = experiment.confirmation(candidate.name)
    if path:
        for node in line:
            echo(node.commit)
    elif as_json:
        print_json(
            candidate_data(candidate, experiment.protocol.hash, experiment.verdicts(genealogy))
            | {
                "path": [node.name for node in line],
                "confirmation": confirmation.to_data() if confirmation else None,
                "violated": [violation.to_data() for violation in experiment.confirmed_violations(candidate.name)],
            }
        )
    else:
        evaluated = len(experiment.evaluated(genealogy)) - 1
        ended = SearchResult(candidate.name, confirmation, evaluated, experiment.archive.count_rounds())
        verdict = experiment.verdicts(genealogy).get(candidate.name)
        for place, text in enumerate(verdict_lines(experiment, ended)):
            echo(text)
            if place == 0 and verdict:
                echo(f"  figures {verdict.integrity}")
        echo(f"  path: {' → '.join([ROOT, *(node.name for node in line)])}")
