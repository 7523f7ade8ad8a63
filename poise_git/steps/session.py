"""The state that the steps of a search share: the experiment, the agent, the executor and the sandbox."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from poise_git import events
from poise_git.agents.interface import Agent
from poise_git.analysis.evidence import ClaimVerdict
from poise_git.analysis.lessons import Lesson
from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Candidate, Metrics, Proposal, Reflection, Status
from poise_git.archive.genealogy import Genealogy
from poise_git.archive.refs import evidence_ref
from poise_git.archive.spending import calls_for
from poise_git.experiment import Experiment
from poise_git.pipeline.executors.interface import Executor
from poise_git.pipeline.protocol import Protocol
from poise_git.pipeline.recipe import ALGORITHM
from poise_git.pipeline.sandbox import Sandbox
from poise_git.search.context.context import Context
from poise_git.search.context.item_text import change_text
from poise_git.search.selection.survey import best, evaluated
from poise_git.steps.containment import Containing
from poise_git.steps.propose import Proposing


@dataclass
class Session:
    """One process's work on an experiment.

    The archive is read once, at first use, and again after `forget`. In between, the session tracks its own writes.

    Attributes:
        verdicts: verdicts on claims about code, by candidate, for candidates that this process has verified.
        refused: manual candidates whose code may not run on this machine.
        lessons: the lessons of reflections, by evidence commit.
    """

    experiment: Experiment
    agent: Agent
    executor: Executor
    sandbox: Sandbox
    containing: Containing
    observe: events.Observer
    verdicts: dict[str, tuple[ClaimVerdict, ...]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    lessons: dict[str, Lesson] = field(default_factory=dict)
    _genealogy: Genealogy | None = field(init=False, default=None)
    _counted: Genealogy | None = field(init=False, default=None)

    @property
    def archive(self) -> Archive:
        return self.experiment.archive

    @property
    def protocol(self) -> Protocol:
        return self.experiment.protocol

    @property
    def genealogy(self) -> Genealogy:
        """The archive as this session knows it."""
        if self._genealogy is None:
            self._genealogy = self.archive.genealogy()
        return self._genealogy

    @property
    def counted(self) -> Genealogy:
        """The genealogy with the figures that count. Figures that this session has measured itself always count."""
        if self._counted is None:
            self._counted = self.experiment.counted(self.genealogy)
        return self._counted

    def forget(self) -> None:
        """Read the archive again at the next use, because other processes write to it too."""
        self._genealogy = self._counted = None

    def is_evaluated(self, name: str) -> bool:
        return name in evaluated(self.counted, self.protocol.hash)

    @property
    def evaluated(self) -> int:
        """The number of evaluated candidates beside the root."""
        return len(evaluated(self.counted, self.protocol.hash).keys() - {ROOT})

    @property
    def best(self) -> str:
        leader = best(self.counted, self.protocol.hash)
        return leader[0].name if leader else ROOT

    @cached_property
    def proposing(self) -> Proposing:
        return Proposing(self.experiment, self.agent, self.observe)

    def prepare(self) -> None:
        """Prepare the data that all runs share, once on every machine that runs them."""
        self.executor.prepare(self.protocol, lambda progress: self.observe(events.Preparing(progress)))

    def context(self, parent: str, seed: int) -> Context:
        """The context for an agent that works on a child of `parent`."""
        genealogy = self.genealogy
        surveyed = self.experiment.survey(genealogy)
        return self.experiment.contexts(genealogy, surveyed, seed).of(parent, genealogy.by_name)

    def change(self, proposal: Proposal, algorithm: str) -> str:
        """The diff of the text `algorithm` from the proposal's parent."""
        return change_text(self.archive.recipe(proposal.parent or ROOT)[ALGORITHM], algorithm)

    def add_candidate(self, proposal: Proposal, algorithm: str) -> None:
        self._know(self.archive.add_candidate(proposal, algorithm))

    def add_evidence(self, name: str, metrics: Metrics, reflection: Reflection | None) -> None:
        candidate = self.genealogy[name]
        self.archive.add_evidence(name, metrics, reflection)
        (evidence,) = self.archive.state(evidence_ref(name))
        figures = {**candidate.metrics, metrics.protocol: metrics}
        self._know(replace(candidate, evidence=evidence, metrics=figures))

    def _know(self, candidate: Candidate) -> None:
        """Update the cached archive after a write of this session; an archive not yet read will include it."""
        if self._genealogy is not None:
            self._genealogy = self._genealogy.with_candidate(candidate)
        if self._counted is not None:
            self._counted = self._counted.with_candidate(candidate)

    def fail(self, name: str, stage: str, reason: str) -> None:
        """Archive a failure. The candidate keeps its branches, because a failure with its reason is evidence too."""
        objective = self.experiment.objective.fingerprint
        failed = Metrics(Status.FAILED, self.protocol.hash, objective=objective, stage=stage, reason=reason)
        metrics = failed.with_calls(calls_for(self.archive, name, self.agent.calls))
        self.add_evidence(name, metrics, None)
        self.observe(events.CandidateFailed(name, stage, reason))
