from __future__ import annotations

from typing import TYPE_CHECKING

import click

from poise_git.cli.common import json_option, open_experiment, print_json, protocol_option
from poise_git.cli.output import echo

if TYPE_CHECKING:
    from poise_git.search.selection.interface import Ranked, Selection


@click.command(name="select", epilog="Example: poise-git -C my-search select --json")
@protocol_option
@json_option
def command(protocol: str | None, as_json: bool) -> None:
    """Show the next parents and the reasons.

    Print the acquisition terms of every eligible candidate, their inputs, and the parents that the next round would
    select.
    """
    from dataclasses import astuple

    from poise_git.cli.render import table_lines
    from poise_git.errors import PoiseError
    from poise_git.search.plan import selection_data
    from poise_git.search.selection import policy_of
    from poise_git.steps.select import round_seed

    experiment = open_experiment(protocol)
    genealogy, settings = experiment.archive.genealogy(), experiment.settings.search
    surveyed = experiment.survey(genealogy)
    if not surveyed.nodes:
        raise PoiseError(
            "no candidate has been evaluated yet, so there are no parents; run: poise-git evolve --rounds 1"
        )
    number = experiment.archive.count_rounds() + 1
    seed = round_seed(experiment.settings.seed, number)
    policy = policy_of(settings)
    selection = policy.select(surveyed, settings.parents, seed)
    if as_json:
        print_json({"round": number, "policy": settings.policy} | selection_data(selection))
        return
    terms = ("pareto", "perf", "div", "bayes")
    rows = [
        [
            entry.node.name,
            f"{entry.score:.3f}",
            *("–" if value is None else f"{value:.3f}" for value in astuple(entry.terms)),
            f"{entry.node.utility:.4f}",
            f"{entry.ingredients['children']:.0f}",
        ]
        for entry in selection.ranked
    ]
    echo("\n".join(table_lines(["candidate", "score", *terms, "U", "children"], rows)))
    weights = policy.weights
    echo(
        f"\npolicy {settings.policy}: score = {weights.pareto:g} pareto + {weights.perf:g} perf + {weights.div:g} div "
        f"+ {weights.bayes:g} bayes, divided by the sum of the weights"
    )
    echo(f"model: {selection.knowledge.statement}")
    for remark in selection.remarks:
        echo(remark)
    echo(f"\nparents of round {number}")
    for line in _choices(selection):
        echo(f"  {line}")


def _choices(selection: Selection) -> list[str]:
    """Each selected parent with its reason and its terms in words."""
    by_name = {entry.node.name: entry for entry in selection.ranked}
    return [f"{choice.name}: {choice.reason}; {_in_words(by_name[choice.name])}" for choice in selection.choices]


def _in_words(entry: Ranked) -> str:
    found = entry.ingredients
    words = [f"U {entry.node.utility:.4f} ± {entry.node.error:.4f}"]
    if not entry.node.feasible:
        words.append("violates a constraint of the objective")
    if "expected_child" in found:
        words.append(
            f"true U estimated at {found['expected_utility']:.4f}, next child {found['expected_child']:.4f} "
            f"± {found['expected_child_deviation']:.4f}"
        )
    if "mean" in found:
        words.append(f"expected gain of descendants {found['mean']:+.2f} ± {found['deviation']:.2f} (in tanh)")
    words.append("on the Pareto front" if found["front"] == 0 else f"front {found['front'] + 1:.0f}")
    words.append(f"distance {found['distance']:.2f} from its nearest neighbors")
    children = int(found["children"])
    words.append("no children yet" if not children else f"{children} {'child' if children == 1 else 'children'}")
    return ", ".join(words)
