from __future__ import annotations

from pathlib import Path

import click

from poise_git.cli.backends import backend_option
from poise_git.cli.common import PositiveNumber, device_option, executor_options, protocol_option, trust_option
from poise_git.cli.output import echo, echo_json


@click.command(
    name="evolve",
    epilog="""\b
Examples:
  poise-git evolve my-search --candidates 10      run a whole search
  poise-git -C my-search evolve --rounds 1        run one more round
  poise-git evolve my-search --json | jq .event   print events as JSON lines
  poise-git evolve my-search --agent anthropic --estimate     print calls, cost and time first
""",
)
@click.argument("target", metavar="[DIR]", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option(
    "--candidates", type=click.IntRange(min=1), help="Stop after N evaluated candidates, not counting the root"
)
@click.option("--rounds", type=click.IntRange(min=1), help="Stop after N rounds")
@click.option("--parents", type=click.IntRange(min=1), help="Parents per round (default: search.parents in poise.yaml)")
@click.option(
    "--proposals", type=click.IntRange(min=1), help="Proposals per parent (default: search.proposals in poise.yaml)"
)
@click.option("--workers", type=click.IntRange(min=1), help="Training runs at a time (default: one per core)")
@click.option("--agent", help="Agent: library, anthropic or human (default: agent in poise.yaml)")
@click.option("--directive", help="Steer the search in words (default: directive in poise.yaml)")
@click.option("--seed", type=int, help="Seed of the search (default: seed in poise.yaml)")
@click.option("--budget-hours", type=PositiveNumber(), help="Stop after N hours")
@click.option("--budget-usd", type=PositiveNumber(), help="Limit the total cost of the archive's calls, in US dollars")
@click.option("--estimate", is_flag=True, help="Print the expected calls, cost and time, and exit")
@trust_option
@executor_options
@backend_option
@protocol_option
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print every event as one line of JSON")
def command(
    target: Path | None,
    candidates: int | None,
    rounds: int | None,
    parents: int | None,
    proposals: int | None,
    workers: int | None,
    agent: str | None,
    directive: str | None,
    seed: int | None,
    budget_hours: float | None,
    budget_usd: float | None,
    estimate: bool,
    executor: str | None,
    ray_address: str | None,
    trust: bool,
    backend: str | None,
    protocol: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Search for a better algorithm.

    Create the archive if DIR has none, or continue an earlier search. Without DIR, use the current archive. Without
    --candidates, --rounds or --budget-hours, stop after 10 evaluated candidates.
    """
    import shlex
    from dataclasses import replace

    from poise_git.archive import HUMAN, Archive
    from poise_git.cli.common import directory, warn_of_suspicious
    from poise_git.cli.progress import Start, show_progress
    from poise_git.cli.search_cost import SearchRequest, show_search_estimate
    from poise_git.cli.sessions import on_executor, open_session
    from poise_git.cli.verdict import result_document, result_text, unproven_text
    from poise_git.errors import BudgetReached, NotAnArchive, UsageError
    from poise_git.experiment import Experiment
    from poise_git.loop import Goal, evolve
    from poise_git.settings import ObjectiveSettings
    from poise_git.template import create_archive, refuse_other_device
    from poise_git.user.preferences import Preferences

    place = directory() / target if target else directory()
    if estimate:
        asked_for = SearchRequest(candidates, rounds, parents, proposals, agent)
        show_search_estimate(place, protocol, asked_for, as_json=as_json)
        return
    try:
        archive = Archive.open(place)
    except NotAnArchive:
        if target is None:
            raise
        archive = create_archive(place, backend=backend, protocol=protocol, device=device, directive=directive or "")
        echo(f"created an archive in {archive.root}", err=as_json)
    experiment = Experiment.load(archive, protocol=protocol, directive=directive)
    stated = experiment.settings.objective != ObjectiveSettings()
    if stated and directive not in (None, experiment.settings.directive):
        echo(
            f"keeping the objective in poise.yaml ({experiment.objective.description}); "
            f"to translate the directive instead: poise-git directive {shlex.quote(directive or '')} --commit",
            err=True,
        )
    if backend not in (None, experiment.protocol.backend):
        raise UsageError(
            f"protocol {experiment.protocol.name} runs on {experiment.protocol.backend}, not on {backend}: "
            f"choose one with --protocol"
        )
    if device is not None:
        refuse_other_device(experiment.protocol, device)
    asked = {"parents": parents, "proposals": proposals}
    if (agent or experiment.settings.agent) == HUMAN:
        # A person works on one candidate at a time, and already knows why a proposal was rejected.
        asked = {"parents": parents or 1, "proposals": proposals or 1, "resamples": 0}
    search_settings = experiment.settings.search.model_copy(
        update={name: value for name, value in asked.items() if value is not None}
    )
    settings = experiment.settings.model_copy(
        update={"search": search_settings, "seed": experiment.settings.seed if seed is None else seed}
    )
    experiment = replace(experiment, settings=on_executor(settings, executor, ray_address))
    chosen = Preferences.load().with_options(device=device, executor=executor, ray_address=ray_address)
    if candidates is None and rounds is None and budget_hours is None:
        candidates = 10
    if unproven := unproven_text(experiment):
        echo(f"poise-git: objective: {unproven}", err=True)
    warn_of_suspicious(experiment, experiment.archive.genealogy())
    goal = Goal(candidates, rounds, budget_hours)
    with (
        show_progress(Start.of(experiment, candidates), as_json=as_json) as observe,
        open_session(
            experiment,
            observe,
            agent=agent,
            workers=workers,
            budget_usd=budget_usd,
            budget_hours=budget_hours,
            preferences=chosen,
            trust=trust,
        ) as session,
    ):
        ended = evolve(session, goal)
    # The session's experiment has the objective that a directive may have been translated to.
    experiment = session.experiment
    if as_json:
        echo_json({"event": "SearchEnded"} | result_document(experiment, ended))
    else:
        echo(result_text(experiment, ended))
    if ended.out_of_budget:
        raise BudgetReached(ended.out_of_budget)
