"""Putting a search together from an experiment, for the verbs that train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from poise_git.agents import agent_named
from poise_git.events import Observer
from poise_git.executors.local import LocalExecutor, available_cores
from poise_git.experiment import Experiment, protocol_file
from poise_git.loop import Search
from poise_git.pipeline.backends import backend_named
from poise_git.pipeline.sandbox import Sandbox


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
    with Sandbox(experiment.settings.sandbox) as sandbox:
        yield Search(
            experiment=experiment,
            agent=agent_named(agent or experiment.settings.agent),
            backend=backend,
            executor=LocalExecutor(backend, sandbox, worker_count(experiment, workers)),
            sandbox=sandbox,
            observe=observe,
        )
