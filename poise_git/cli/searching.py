"""Putting a search together from an experiment, for the verbs that train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from poise_git import events
from poise_git.agents import agent_named
from poise_git.cli.progress import Start, show_progress
from poise_git.events import Observer
from poise_git.executors.local import LocalExecutor, available_cores
from poise_git.experiment import Experiment, protocol_file
from poise_git.loop import Search
from poise_git.pipeline.backends import backend_named
from poise_git.pipeline.sandbox import Sandbox, isolation


def worker_count(experiment: Experiment, asked: int | None) -> int:
    return asked or experiment.settings.workers or available_cores()


@contextmanager
def open_search(
    experiment: Experiment, observe: Observer, *, agent: str | None = None, workers: int | None = None
) -> Iterator[Search]:
    """A search on this machine; its child processes end with the block.

    Raises:
        UsageError: an unknown agent or backend.
        SettingsError: the protocol's settings are not the backend's.
    """
    backend = backend_named(experiment.protocol.backend)
    backend.validate(experiment.protocol, protocol_file(experiment.protocol.name))
    for layer in isolation():
        if not layer.up:
            observe(events.LayerMissing(layer.name, layer.detail))
    with Sandbox(experiment.settings.sandbox) as sandbox:
        yield Search(
            experiment=experiment,
            agent=agent_named(agent or experiment.settings.agent),
            backend=backend,
            executor=LocalExecutor(backend, sandbox, worker_count(experiment, workers)),
            sandbox=sandbox,
            observe=observe,
        )


@contextmanager
def open_step(
    experiment: Experiment, *, quiet: bool, agent: str | None = None, workers: int | None = None
) -> Iterator[Search]:
    """A search for one step of it, with the archive's search lock held and progress shown unless `quiet`.

    Raises:
        ArchiveLocked: a search is running in this archive.
    """
    with (
        show_progress(Start.of(experiment, None), as_json=False) as observe,
        open_search(experiment, (lambda event: None) if quiet else observe, agent=agent, workers=workers) as search,
        experiment.archive.lock("search"),
    ):
        search.measure_anew()
        yield search
