"""What the steps of a search share: the experiment, and those who carry it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from poise_git import events
from poise_git.agents.interface import Agent
from poise_git.analysis.evidence import ClaimVerdict
from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Metrics, Proposal, Status
from poise_git.archive.genealogy import Genealogy
from poise_git.archive.spending import ledger_of
from poise_git.experiment import Experiment
from poise_git.pipeline.executors.interface import Executor
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.recipe import ALGORITHM
from poise_git.pipeline.sandbox import Sandbox
from poise_git.search.context.context import Context
from poise_git.search.context.item_text import change_text
from poise_git.steps.containment import Containing
from poise_git.steps.propose import Proposing


@dataclass
class Session:
    """One process's work on an experiment.

    Attributes:
        verdicts: on claims about code, of the candidates that this process has verified.
        refused: candidates by hand whose code may not run on this machine.
    """

    experiment: Experiment
    agent: Agent
    executor: Executor
    sandbox: Sandbox
    containing: Containing
    observe: events.Observer
    verdicts: dict[str, tuple[ClaimVerdict, ...]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    @property
    def archive(self) -> Archive:
        return self.experiment.archive

    @property
    def protocol(self) -> Protocol:
        return self.experiment.protocol

    @property
    def evaluated(self) -> int:
        """Evaluated candidates beside the root."""
        return len(self.experiment.evaluated().keys() - {ROOT})

    @property
    def best(self) -> str:
        leader = self.experiment.best()
        return leader[0].name if leader else ROOT

    @cached_property
    def proposing(self) -> Proposing:
        return Proposing(self.experiment, self.agent, self.observe)

    def prepare(self) -> None:
        """What all runs share, made once on every machine that runs them."""
        self.executor.prepare(self.protocol, lambda progress: self.observe(events.Preparing(progress)))

    def context(self, parent: str, genealogy: Genealogy, seed: int) -> Context:
        """What an agent is told that works on a child of `parent`."""
        surveyed = self.experiment.survey(genealogy)
        return self.experiment.contexts(genealogy, surveyed, seed).of(parent, genealogy.by_name)

    def change(self, proposal: Proposal, algorithm: str) -> str:
        """The diff of the text `algorithm` from the proposal's parent."""
        return change_text(self.archive.recipe(proposal.parent or ROOT)[ALGORITHM], algorithm)

    def fail(self, name: str, stage: str, reason: str) -> None:
        """A failed candidate keeps its branches, with the stage and the reason: negative evidence is evidence."""
        objective = self.experiment.objective.fingerprint
        failed = Metrics(Status.FAILED, self.protocol.hash, objective=objective, stage=stage, reason=reason)
        metrics = failed.with_calls(ledger_of(self.archive, name, self.agent.calls))
        self.archive.add_evidence(name, metrics, None)
        self.observe(events.CandidateFailed(name, stage, reason))
