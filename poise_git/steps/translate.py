"""Steering: translate a directive into an objective, and show, journal and commit it before it is used.

The objective in poise.yaml counts. A directive is translated once, and only if poise.yaml states no objective. After
that, people edit the objective.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from poise_git import events
from poise_git.agents.interface import Agent
from poise_git.archive.entries import ROOT
from poise_git.errors import SettingsError, UsageError
from poise_git.experiment import SETTINGS_FILE, Experiment
from poise_git.measurement.figures import figures
from poise_git.measurement.objective import Objective
from poise_git.measurement.translation import Interpretation
from poise_git.settings import ObjectiveSettings, PoiseSettings, load_settings
from poise_git.steps.session import Session
from poise_git.untrusted.yaml_editor import with_fields
from poise_git.untrusted.yaml_text import BadYaml


def translate_directive(session: Session) -> None:
    """Translate a directive that has no objective yet, and commit the objective."""
    if is_untranslated(session.experiment):
        reading = interpret(session.experiment, session.agent)
        session.observe(events.DirectiveTranslated(session.experiment.directive, reading))
        session.experiment, kept = adopt(session.experiment, reading, session.agent)
        for file in kept:
            session.observe(events.EditsKept(file))
        session.forget()


def root_figures(experiment: Experiment) -> dict[str, float]:
    """The figures that an objective may use, each with the root's mean over its seeds.

    Raises:
        UsageError: the root has not run, so its figures are unknown.
    """
    runs = experiment.runs(ROOT, experiment.protocol.seeds)
    if not runs:
        raise UsageError(f"what can be steered for shows once the root has run: poise-git evaluate {ROOT}")
    table = figures(runs, experiment.protocol.suite_weights)
    return {name: math.fsum(by_seed.values()) / len(by_seed) for name, by_seed in table.items()}


def is_untranslated(experiment: Experiment) -> bool:
    """Whether there is a directive that neither an agent nor a person has translated for this archive."""
    if not experiment.directive.strip() or experiment.settings.objective != ObjectiveSettings():
        return False
    known = experiment.archive.directives()
    return not known or known[-1].get("directive") != experiment.directive


def interpret(experiment: Experiment, agent: Agent) -> Interpretation:
    """Have the agent translate the directive, without writing anything."""
    return agent.interpret(experiment.directive, root_figures(experiment))


def adopt(experiment: Experiment, reading: Interpretation, agent: Agent) -> tuple[Experiment, tuple[str, ...]]:
    """Journal the translation and commit it to poise.yaml, both at once.

    Returns the experiment with it, and the files of the work tree that keep a person's conflicting edits.
    """
    calls = {"calls": [call.to_data() for call in agent.calls]} if agent.calls else {}
    kept = experiment.archive.write_directive(
        {"directive": experiment.directive, "agent": agent.name, **reading.to_data(), **calls},
        SETTINGS_FILE,
        lambda text: settings_with(text, experiment.directive, reading.objective),
    )
    if reading.objective is None:
        return experiment, kept
    settings = experiment.settings.model_copy(update={"objective": reading.objective})
    objective = Objective(experiment.protocol.suite_weights, reading.objective)
    return replace(experiment, settings=settings, objective=objective), kept


def settings_with(text: str, directive: str, objective: ObjectiveSettings | None) -> str:
    """Return poise.yaml with another directive and objective; everything else stays, comments included.

    Raises:
        SettingsError: the file has a form that cannot be edited, or the edit would make it invalid.
    """
    fields: dict[tuple[str, ...], Any] = {("directive",): directive}
    if objective is not None:
        data = objective.to_data()
        fields |= {("objective", name): data[name] for name in ("metrics", "constraints")}
    try:
        changed = with_fields(text, fields)
    except BadYaml as error:
        raise SettingsError(SETTINGS_FILE, error.line, "", error.what) from error
    load_settings(changed, PoiseSettings, SETTINGS_FILE)
    return changed
