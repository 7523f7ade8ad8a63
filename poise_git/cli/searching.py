"""Putting a search together from an experiment, for the verbs that train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from poise_git import events
from poise_git.accounts import spent
from poise_git.agents import Means, agent_named
from poise_git.cli.progress import Start, show_progress
from poise_git.events import Observer
from poise_git.executors import open_executor
from poise_git.experiment import Experiment, protocol_file
from poise_git.loop import Search
from poise_git.pipeline.backends import backend_named
from poise_git.pipeline.sandbox import Sandbox, isolation
from poise_git.settings import PoiseSettings


def on_executor(settings: PoiseSettings, kind: str | None, address: str | None) -> PoiseSettings:
    """The settings with what the command line says of where to run."""
    asked = {"kind": "ray" if address and not kind else kind, "address": address}
    update = {name: value for name, value in asked.items() if value is not None}
    return settings.model_copy(update={"executor": settings.executor.model_copy(update=update)})


@contextmanager
def open_search(
    experiment: Experiment,
    observe: Observer,
    *,
    agent: str | None = None,
    workers: int | None = None,
    budget_usd: float | None = None,
) -> Iterator[Search]:
    """A search whose runs go where the settings say; its processes end with the block.

    `budget_usd` is what the archive may have paid for an agent's calls, all that it has paid so far included.

    Raises:
        UsageError: an unknown agent or backend, or a protocol that needs more than there is.
        SettingsError: the protocol's settings are not the backend's.
    """
    protocol, settings = experiment.protocol, experiment.settings
    backend = backend_named(protocol.backend)
    backend.validate(protocol, protocol_file(protocol.name))
    paid = 0.0 if budget_usd is None else spent(experiment.archive)
    means = Means(experiment.archive, settings, experiment.directive, budget_usd, paid)
    chosen = agent_named(agent or settings.agent, means)
    for layer in isolation():
        if not layer.up:
            observe(events.LayerMissing(layer.name, layer.detail))
    capped = settings.model_copy(update={"workers": workers or settings.workers})
    with (
        Sandbox(settings.sandbox) as sandbox,
        open_executor(capped, backend, protocol, sandbox, experiment.archive.root) as executor,
    ):
        yield Search(
            experiment=experiment, agent=chosen, backend=backend, executor=executor, sandbox=sandbox, observe=observe
        )


@contextmanager
def open_step(
    experiment: Experiment,
    *,
    quiet: bool,
    agent: str | None = None,
    workers: int | None = None,
    executor: str | None = None,
    ray_address: str | None = None,
) -> Iterator[Search]:
    """A search for one step of it, with the archive's search lock held and progress shown unless `quiet`.

    Raises:
        ArchiveLocked: a search is running in this archive.
    """
    experiment = replace(experiment, settings=on_executor(experiment.settings, executor, ray_address))
    with (
        show_progress(Start.of(experiment, None), as_json=False) as observe,
        open_search(experiment, (lambda event: None) if quiet else observe, agent=agent, workers=workers) as search,
        experiment.archive.lock("search"),
    ):
        search.measure_anew()
        yield search
