from __future__ import annotations

from collections.abc import Sequence

import click

from poise_git.cli.common import candidate_argument, json_option, open_experiment, print_json, protocol_option
from poise_git.cli.output import echo


@click.command(name="show", epilog="Example: poise-git -C my-search show av-grpo")
@candidate_argument()
@protocol_option
@click.option("--regime", metavar="NAME", help="Regime whose trajectory to print (default: the first one)")
@json_option
def command(candidate: str, protocol: str | None, regime: str | None, as_json: bool) -> None:
    """Show one candidate and all its evidence.

    Print the proposal and its screening, metrics with uncertainty, the trajectory and the reflection.
    """
    from poise_git.cli.render import (
        candidate_data,
        ledger_text,
        reproduction_lines,
        score_text,
        screening_lines,
        sparkline,
        table_lines,
        violation_text,
    )
    from poise_git.cli.render import estimate_text as text
    from poise_git.errors import UsageError
    from poise_git.search.plan import screening_of
    from poise_git.untrusted.display import one_line

    experiment = open_experiment(protocol)
    archive = experiment.archive
    found = archive.resolve(candidate)
    proposal, reflection = archive.proposal(found.name), archive.reflection(found.name)
    metrics = archive.metrics_file(found.name)
    if metrics is None or metrics.protocol != experiment.protocol.hash:
        # The files belong to the protocol that was measured last. Figures of two protocols are never mixed.
        metrics, reflection = found.metrics_under(experiment.protocol.hash), None
    screening = screening_of(archive, found.name)
    verdicts = experiment.verdicts()
    reproductions = [
        each for each in archive.trajectory(found).reproductions if each.protocol == experiment.protocol.hash
    ]
    runs = experiment.runs(found.name, experiment.protocol.seeds)
    regimes = list(dict.fromkeys(name.rpartition("/")[0] for run in runs for name in run.series))
    if regime is not None and regime not in regimes:
        known = ", ".join(filter(None, regimes)) or "none"
        raise UsageError(f"no regime {regime} in the runs of {found.name}; known: {known}")
    if as_json:
        print_json(
            candidate_data(found, experiment.protocol.hash, verdicts)
            | {
                "proposal": proposal.to_data() if proposal else None,
                "screening": {"round": screening[0], **screening[1].to_data()} if screening else None,
                "reflection": {"facts": reflection.facts.to_data(), "prose": reflection.prose} if reflection else None,
                "metrics": metrics.to_data() if metrics else None,
                "runs": [run.to_data() for run in runs],
                "reproductions": [each.to_data() for each in reproductions],
            }
        )
        return
    echo(f"{found.name}  {score_text(found, experiment.protocol.hash)}")
    echo(f"commit {found.commit}, {_origin(found.parents)}, by {found.agent}")
    if verdict := verdicts.get(found.name):
        echo(f"figures {verdict.integrity}")
    for line in reproduction_lines(reproductions):
        echo(line)
    echo(f"\n{one_line(found.mechanism)}  [{one_line(found.family)}]")
    if found.hypothesis:
        echo(f"\n{found.hypothesis}")
    if proposal and proposal.knobs:
        echo("\nknobs: " + ", ".join(f"{knob} = {value:g}" for knob, value in proposal.knobs.items()))
    if found.priors:
        echo("priors: " + ", ".join(found.priors))
    if screening:
        echo("\n" + "\n".join(screening_lines(*screening)))
    if metrics and metrics.details:
        figures = list(dict.fromkeys(figure for row in metrics.details.values() for figure in row))
        header = ["suite", "y", *figures]
        rows = [
            [suite, text(metrics.values.get(suite)), *(text(row.get(figure)) for figure in figures)]
            for suite, row in metrics.details.items()
        ]
        echo("\n" + "\n".join(table_lines(header, rows)))
    if metrics:
        for name, value in metrics.further.items():
            echo(one_line(f"{name} {text(value)}"))
        for violation in metrics.violations:
            echo(violation_text(violation))
    if regimes:
        shown = regime or regimes[0]
        where = f" in regime {shown} (--regime: {', '.join(regimes)})" if shown else ""
        echo(f"\ntrajectory{where}, mean over seeds: first, last")
        for name in runs[0].series:
            own, _, figure = name.rpartition("/")
            if own == shown:
                series = [run.series.get(name, ()) for run in runs]
                mean = [sum(step) / len(step) for step in zip(*series, strict=False)]
                if not mean:
                    continue
                echo(f"  {one_line(figure):<16} {mean[0]:>8.3f} {mean[-1]:>8.3f}  {sparkline(mean, width=50)}")
    if metrics and metrics.calls:
        echo(f"\n{ledger_text(metrics)}")
    if reflection:
        echo(f"\n{reflection.prose.rstrip()}")


def _origin(parents: Sequence[str]) -> str:
    return f"child of {' and '.join(parents)}" if parents else "the root"
