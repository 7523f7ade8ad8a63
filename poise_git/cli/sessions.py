"""Build a session from an experiment, for the commands that train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from poise_git import events
from poise_git.agents import AgentEnvironment, agent_named
from poise_git.agents.interface import Agent
from poise_git.archive.entries import Status
from poise_git.archive.genealogy import Genealogy
from poise_git.archive.spending import spent
from poise_git.cli.common import warn_of_suspicious
from poise_git.cli.consent import refuse_device, refuse_executor, refuse_files
from poise_git.cli.output import echo
from poise_git.cli.progress import Start, line_of, show_progress
from poise_git.errors import UsageError
from poise_git.events import Observer, ignore_events
from poise_git.experiment import Experiment, protocol_file
from poise_git.pipeline.backends import backend_named
from poise_git.pipeline.executors import EXECUTORS, open_executor, unknown_executor
from poise_git.pipeline.sandbox import Sandbox
from poise_git.search.context.builder import Contexts
from poise_git.search.plan import Slot
from poise_git.search.selection.interface import Survey
from poise_git.settings import PoiseSettings
from poise_git.steps.containment import Containing
from poise_git.steps.propose import Proposing
from poise_git.steps.reflect import rescore
from poise_git.steps.select import round_seed
from poise_git.steps.session import Session
from poise_git.user.preferences import Preferences


def on_executor(settings: PoiseSettings, kind: str | None, address: str | None) -> PoiseSettings:
    """The settings, with the executor that the command line chooses. Raises UsageError for an unknown executor."""
    if kind is not None and kind not in EXECUTORS:
        raise unknown_executor(kind)
    asked = {"kind": "ray" if address and not kind else kind, "address": address}
    update = {name: value for name, value in asked.items() if value is not None}
    return settings.model_copy(update={"executor": settings.executor.model_copy(update=update)})


@contextmanager
def open_session(
    experiment: Experiment,
    observe: Observer,
    *,
    agent: str | None = None,
    workers: int | None = None,
    budget_usd: float | None = None,
    budget_hours: float | None = None,
    preferences: Preferences | None = None,
    trust: bool = False,
) -> Iterator[Session]:
    """Open a session on the configured executor; its processes end with the block.

    `budget_usd` limits the total cost of the archive's calls, including earlier ones. `budget_hours` limits how long an
    agent waits for a person. `preferences` are the user's choices; None reads the configuration. With `trust`,
    candidates run in the trainer's process.

    Raises:
        UsageError: an unknown agent or backend, a protocol that needs more than this machine has, or a resource that
            the user has not allowed.
        SettingsError: the protocol's settings are invalid for the backend.
    """
    protocol, settings = experiment.protocol, experiment.settings
    kind = backend_named(protocol.backend)
    backend = kind.open()
    file, chosen = protocol_file(protocol.name), preferences or Preferences.load()
    refuse_executor(settings.executor, chosen)
    refuse_files(kind.files_named(protocol, file), file, Path.cwd(), chosen)
    backend.validate(protocol, file)
    refuse_device(backend.demand(protocol), file, chosen)
    paid = 0.0 if budget_usd is None else spent(experiment.archive)
    environment = AgentEnvironment(
        experiment.archive, settings, experiment.directive, budget_usd, paid, budget_hours, observe, chosen
    )
    who = agent_named(agent or settings.agent).open(environment)
    containing = Containing.on_this_machine(experiment.archive, chosen, trusted=trust)
    if containing.missing:
        observe(events.LayersMissing(containing.missing_names, chosen.missing_layers == "allow" or trust))
    capped = settings.model_copy(update={"workers": workers or settings.workers})
    with (
        Sandbox(settings.sandbox) as sandbox,
        open_executor(capped, backend, protocol, sandbox, experiment.archive.root) as executor,
    ):
        yield Session(
            experiment=experiment,
            agent=who,
            executor=executor,
            sandbox=sandbox,
            containing=containing,
            observe=observe,
        )


@dataclass(frozen=True)
class NextRound:
    """The next round, before its parents are selected."""

    number: int
    seed: int
    genealogy: Genealogy
    surveyed: Survey
    contexts: Contexts
    protocol: str

    def parent(self, text: str) -> str:
        """The name of the candidate that `text` refers to, if it can be a parent.

        Raises:
            UnknownCandidate: no such candidate.
            UsageError: the candidate failed.
        """
        candidate = self.contexts.archive.resolve(text)
        if candidate.status_under(self.protocol) is Status.FAILED:
            raise UsageError(
                f"{candidate.name} failed, so it cannot be a parent; for the reason: poise-git show {candidate.name}"
            )
        return candidate.name


def next_round(experiment: Experiment) -> NextRound:
    """The start of the next round, read from the archive. Writes nothing."""
    genealogy = experiment.archive.genealogy()
    number = experiment.archive.count_rounds() + 1
    seed = round_seed(experiment.settings.seed, number)
    surveyed = experiment.survey(genealogy)
    contexts = experiment.contexts(genealogy, surveyed, seed)
    return NextRound(number, seed, genealogy, surveyed, contexts, experiment.protocol.hash)


def agent_for(experiment: Experiment, name: str | None) -> Agent:
    """An agent by name, or poise.yaml's, for a step without progress events."""
    environment = AgentEnvironment(
        experiment.archive, experiment.settings, experiment.directive, preferences=Preferences.load()
    )
    return agent_named(name or experiment.settings.agent).open(environment)


def propose_once(experiment: Experiment, upcoming: NextRound, parent: str, agent: str | None) -> Slot:
    """One attempt at proposals for `parent`, with verdicts. Writes only the cost of its calls."""
    proposer = agent_for(experiment, agent)
    proposing = Proposing(experiment, proposer, ignore_events)
    proposing.begin(upcoming.genealogy, upcoming.surveyed, upcoming.seed)
    try:
        return Slot(parent, "asked for", upcoming.seed, proposing.attempt(parent, upcoming.seed))
    finally:
        experiment.archive.write_calls(f"propose {parent}", proposer.calls)


@contextmanager
def open_step(
    experiment: Experiment,
    *,
    quiet: bool,
    agent: str | None = None,
    workers: int | None = None,
    executor: str | None = None,
    ray_address: str | None = None,
    trust: bool = False,
    measure: bool = True,
) -> Iterator[Session]:
    """Open a session for one step. It holds the archive's search lock, and shows progress unless `quiet`.

    With `measure`, candidates that were scored with another objective are rescored first.

    Raises:
        ArchiveLocked: a search is running in this archive.
    """
    experiment = replace(experiment, settings=on_executor(experiment.settings, executor, ray_address))
    chosen = Preferences.load().with_options(executor=executor, ray_address=ray_address)
    with (
        show_progress(Start.of(experiment, None), as_json=False) as observe,
        open_session(
            experiment,
            _warnings_alone if quiet else observe,
            agent=agent,
            workers=workers,
            preferences=chosen,
            trust=trust,
        ) as session,
        experiment.archive.lock("search"),
    ):
        warn_of_suspicious(experiment, experiment.archive.genealogy())
        if measure:
            rescore(session)
        yield session


def _warnings_alone(event: events.Event) -> None:
    """Show warnings only, so that standard output holds only a document."""
    if isinstance(event, events.LayersMissing):
        echo(f"poise-git: {line_of(event)}", err=True)
