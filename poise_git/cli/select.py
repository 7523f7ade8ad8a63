from __future__ import annotations

import click

from poise_git.cli.common import json_option, open_experiment, print_json, protocol_option


@click.command(name="select", epilog="Example: poise-git -C my-search select --json")
@protocol_option
@json_option
def command(protocol: str | None, as_json: bool) -> None:
    """Who would be a parent next, and why.

    The acquisition's terms of every eligible candidate, and the parents the next round would take.
    """
    from poise_git.cli.render import table_lines
    from poise_git.errors import PoiseError
    from poise_git.loop import round_seed
    from poise_git.plan import acquisition_rows
    from poise_git.search.acquisition import choose_parents, rank
    from poise_git.search.nodes import eligible_nodes, utility_scale

    experiment = open_experiment(protocol)
    genealogy, settings = experiment.archive.genealogy(), experiment.settings.search
    nodes = eligible_nodes(genealogy, experiment.protocol.hash)
    if not nodes:
        raise PoiseError("nothing is evaluated yet, so nothing can be a parent; run: poise-git evolve --rounds 1")
    ranked = rank(nodes, settings, settings.beta or utility_scale(genealogy, experiment.protocol.hash))
    number = len(experiment.archive.rounds()) + 1
    choices = choose_parents(ranked, settings, round_seed(experiment.settings.seed, number))
    rows = acquisition_rows(ranked)
    if as_json:
        print_json(
            {
                "round": number,
                "candidates": rows,
                "parents": [{"name": choice.name, "reason": choice.reason} for choice in choices],
            }
        )
        return
    terms = ("pareto", "perf", "div", "bayes")
    table = [
        [
            row["name"],
            f"{row['score']:.3f}",
            *("–" if row["terms"][term] is None else f"{row['terms'][term]:.3f}" for term in terms),
            f"{row['utility']:.4f}",
            str(row["children"]),
        ]
        for row in rows
    ]
    click.echo("\n".join(table_lines(["candidate", "score", *terms, "U", "children"], table)))
    if any(row["terms"]["bayes"] is None for row in rows):
        click.echo(f"bayes takes part once {settings.bayes_after} candidates have descendants")
    click.echo(f"\nround {number} would take")
    for choice in choices:
        click.echo(f"  {choice.name}: {choice.reason}")
