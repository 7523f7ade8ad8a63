"""From the reflections of a search to its principles, which every later context shows."""

from __future__ import annotations

from typing import Any

from poise_git.agents.interface import Agent
from poise_git.analysis.lessons import Lesson
from poise_git.archive.entries import ROOT
from poise_git.experiment import Experiment

# Principles are about several candidates.
FEWEST = 2


def distil_principles(experiment: Experiment, agent: Agent, number: int) -> None:
    """Journal the principles that the evidence before round `number` supports, once a round."""
    archive = experiment.archive
    earlier: dict[str, Any] = archive.principles()
    found = (
        (experiment.proposal(candidate), archive.reflection(name))
        for name, (candidate, _) in experiment.evaluated().items()
        if name != ROOT
    )
    lessons = [Lesson.of(proposal, reflection) for proposal, reflection in found if reflection]
    if len(lessons) < FEWEST or earlier.get("round") == number:
        return
    stated = earlier.get("principles")
    before = [entry for entry in stated if isinstance(entry, dict)] if isinstance(stated, list) else []
    principles = agent.distil(lessons, before)
    archive.write_principles({"version": 1, "round": number, "agent": agent.name, "principles": principles})
