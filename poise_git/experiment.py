"""One search: an archive with its settings, protocol, objective and literature, and queries on them."""

from __future__ import annotations

import hashlib
import math
import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from poise_git.analysis.evidence import ClaimVerdict, Evidence
from poise_git.analysis.evidence_table import gather_evidence
from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Candidate, Estimate, Metrics, Proposal, Run, Status, Violation
from poise_git.archive.genealogy import Genealogy
from poise_git.errors import NotAnArchive, SettingsError, UsageError
from poise_git.integrity.audit import Auditor
from poise_git.integrity.verdicts import Verdict
from poise_git.measurement.figures import UTILITY, Figures, overall
from poise_git.measurement.metrics import MEASURING, summarize
from poise_git.measurement.objective import Objective
from poise_git.measurement.statistics import Noise, paired_difference
from poise_git.package_data import read_prompt
from poise_git.pipeline.backends import backend_named
from poise_git.pipeline.backends.recorded import Recorded
from poise_git.pipeline.cache import cache_folder
from poise_git.pipeline.executors import EXECUTORS
from poise_git.pipeline.interface import Job
from poise_git.pipeline.protocol import Protocol, load_protocol
from poise_git.search.context.builder import Contexts, ContextSettings
from poise_git.search.context.item_text import objective_text
from poise_git.search.context.rendering import Renderer
from poise_git.search.literature import Card, load_cards
from poise_git.search.plan import rejected_proposals
from poise_git.search.selection import POLICIES
from poise_git.search.selection.interface import Survey
from poise_git.search.selection.survey import best, evaluated, survey
from poise_git.settings import OVERALL, PoiseSettings, field_error, load_settings

SETTINGS_FILE = "poise.yaml"
BRANCH = "main"
CONTEXT_PROMPT = "context.md.j2"
# Metrics in notes are rounded to six digits.
ROUNDED = 1e-5


def protocol_file(name: str) -> str:
    return f"protocols/{name}.yaml"


@dataclass(frozen=True)
class Experiment:
    archive: Archive
    settings: PoiseSettings
    protocol: Protocol
    objective: Objective
    cards: tuple[Card, ...]
    directive: str

    @classmethod
    def load(
        cls, archive: Archive, *, protocol: str | None = None, directive: str | None = None, committed: bool = False
    ) -> Experiment:
        """Read settings, protocol and cards from the archive's `main` branch; only committed files count.

        Raises:
            NotAnArchive: `main` holds no poise.yaml.
            SettingsError: a file is wrong (file, line, field).
            UsageError: the protocol is unknown, or poise.yaml has uncommitted changes.

        With `committed`, an uncommitted edit is ignored instead of refused. Before the root has run, the objective may
        name any metric, because only the root's runs show which metrics exist besides the suites.
        """
        settings = load_poise_settings(archive, committed=committed)
        _refuse_unknown_names(archive, settings)
        name = settings.protocol if protocol is None else protocol
        file = protocol_file(name)
        text = archive.read_text(BRANCH, file)
        if text is None:
            known = sorted(path.removesuffix(".yaml") for path in archive.list_texts(BRANCH, "protocols"))
            raise UsageError(f"no protocol {name!r}: {BRANCH} has {', '.join(known) or 'none'} in protocols/")
        if not committed:
            _refuse_uncommitted(archive, file, text)
        loaded = load_protocol(text, file)
        experiment = cls(
            archive=archive,
            settings=settings,
            protocol=loaded,
            objective=Objective(loaded.suite_weights, settings.objective),
            cards=load_cards(
                {
                    f"literature/{path}": card
                    for path, card in archive.list_texts(BRANCH, "literature").items()
                    if path.endswith(".yaml")
                }
            ),
            directive=settings.directive if directive is None else directive,
        )
        experiment.validate_metrics()
        return experiment

    @property
    def protocol_option(self) -> str:
        """The `--protocol` option that a command needs, with a space before it; empty if poise.yaml names this
        protocol."""
        name = self.protocol.name
        return "" if name == self.settings.protocol else f" --protocol {shlex.quote(name)}"

    @property
    def unverified_metrics(self) -> tuple[str, ...]:
        """Metrics of the objective that only the root's runs can validate."""
        return () if self.runs(ROOT, self.protocol.seeds) else tuple(self._figures_asked)

    def validate_metrics(self) -> None:
        """Check that the root's runs, if there are any, have every figure that the objective uses.

        Raises:
            SettingsError: a figure is missing; the message names those that exist.
        """
        runs = self.runs(ROOT, self.protocol.seeds) if self._figures_asked else []
        table = self.objective.figures(runs)
        known = [figure for figure, by_seed in table.items() if figure != UTILITY and len(by_seed) == len(runs)]
        for metric, place in self._figures_asked.items():
            if runs and metric not in known:
                raise field_error(
                    self.archive.read_text(BRANCH, SETTINGS_FILE) or "",
                    SETTINGS_FILE,
                    ("objective", *place),
                    f"the runs of {ROOT} have no figure {metric}; they have {', '.join(known)}",
                )

    @property
    def _figures_asked(self) -> dict[str, tuple[str | int, ...]]:
        """Metrics of the objective that are not suites, with their places in the settings."""
        told_by_suites = {*self.protocol.suites, OVERALL}
        return {metric: place for metric, place in self.objective.metrics.items() if metric not in told_by_suites}

    @property
    def noise(self) -> Noise | None:
        """The protocol's noise for differences in U; None if the objective changes U."""
        stated = self.protocol.paired_deviation
        return Noise(stated.value, stated.freedom) if stated and self.objective.is_overall else None

    @cached_property
    def auditor(self) -> Auditor:
        """The audit that decides which figures count."""
        return Auditor(self)

    def verdicts(self, genealogy: Genealogy | None = None) -> Mapping[str, Verdict]:
        """The integrity of every candidate with figures under this protocol."""
        return self.auditor.verdicts(genealogy or self.archive.genealogy())

    def doubt(self, genealogy: Genealogy | None = None) -> str:
        """Why the intervals of this archive prove nothing; empty if nothing speaks against them."""
        return self.auditor.doubt(genealogy or self.archive.genealogy())

    def counted(self, genealogy: Genealogy | None = None) -> Genealogy:
        """The genealogy with the figures that count in selection, in which no note overrides its runs."""
        return self.auditor.counted(genealogy or self.archive.genealogy())

    def evaluated(self, genealogy: Genealogy | None = None) -> dict[str, tuple[Candidate, Metrics]]:
        """Candidates whose metrics under this protocol count, including the root."""
        return evaluated(self.counted(genealogy), self.protocol.hash)

    def best(self, genealogy: Genealogy | None = None) -> tuple[Candidate, Metrics] | None:
        """The best candidate by the figures that count."""
        return best(self.counted(genealogy), self.protocol.hash)

    def survey(self, genealogy: Genealogy, remaining: int | None = None) -> Survey:
        """Survey the candidates that may be parents, by the figures that count; see `survey`."""
        verdicts = self.verdicts(genealogy)
        found = survey(self.counted(genealogy), self.protocol.hash, self.objective, remaining)
        # More seeds extend earlier runs, so they need those runs in the archive.
        untraced = {name for name, verdict in verdicts.items() if not verdict.traced}
        if not untraced:
            return found
        nodes = (replace(node, repeatable=node.name not in untraced) for node in found.nodes)
        return replace(found, nodes=tuple(nodes))

    def proposal(self, candidate: Candidate) -> Proposal:
        """A candidate's archived proposal, or the commit message of a candidate that a person committed."""
        return self.archive.proposal(candidate.name) or self.archive.stated_proposal(candidate)

    def runs(self, name: str, seeds: Collection[int]) -> list[Run]:
        """The archived runs of a candidate under this protocol on these seeds, by seed."""
        found = {run.seed: run for run in self.archive.runs(name) if run.protocol == self.protocol.hash}
        return [found[seed] for seed in sorted(seeds) if seed in found]

    def job(self, name: str, seed: int, purpose: str = "") -> Job:
        """Make the job of a training run, in the scratch folder of an interrupted attempt at the same run.

        `purpose` separates its folder from that of the search's own run.
        """
        job = Job(name, self.archive.recipe(name), self.protocol, seed, Path())
        place = hashlib.sha256(os.fsencode(self.archive.root)).hexdigest()[:16]
        folder = cache_folder("runs") / place / "-".join(filter(None, (name, job.key, purpose)))
        folder.mkdir(parents=True, exist_ok=True)
        return replace(job, scratch=folder)

    def contexts(self, genealogy: Genealogy, surveyed: Survey, seed: int) -> Contexts:
        """The contexts of this state of the archive; `seed` is the round's."""
        return Contexts(
            self.archive, self.counted(genealogy), surveyed, self.brief, rejected_proposals(self.archive), seed
        )

    @cached_property
    def brief(self) -> ContextSettings:
        """The settings that all contexts of this search share."""
        return ContextSettings(
            protocol=self.protocol.hash,
            seeds=self.protocol.seeds,
            objective=objective_text(self.objective),
            unweighted=self.objective.unweighted,
            directive=self.directive,
            cards=self.cards,
            budget=self.settings.search.context_tokens,
            renderer=self.renderer,
        )

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer of contexts, with the archive's own template if it has one."""
        return Renderer(self.archive.read_text(BRANCH, f"prompts/{CONTEXT_PROMPT}") or read_prompt(CONTEXT_PROMPT))

    def measure(self, name: str, runs: Sequence[Run]) -> Metrics:
        """Compute y and U(y) of a candidate, and its gain, paired with the root's runs on the same seeds.

        Raises:
            SettingsError: the objective uses a figure that the root's runs do not have.
            RunFailed: it uses a figure that the candidate's runs do not have.
        """
        if name == ROOT:
            self.validate_metrics()
            return self.metrics_of(runs, None)
        root_runs = self.runs(ROOT, self.protocol.seeds) or None
        again = tuple(self.runs(each, self.protocol.further_seeds) for each in (name, ROOT))
        return self.metrics_of(runs, root_runs, (again[0], again[1]))

    def metrics_of(
        self,
        runs: Sequence[Run],
        root_runs: Sequence[Run] | None,
        again: tuple[Sequence[Run], Sequence[Run]] = ((), ()),
    ) -> Metrics:
        """Compute y and U(y) of these runs against those of the root; both evaluation and audit use this."""
        return summarize(self.protocol.hash, runs, root_runs, self.objective, self.noise, again)

    def at_learning_rate(self, factor: float) -> Experiment:
        """This experiment with the protocol's learning rates multiplied by `factor`."""
        if factor == 1.0:
            return self
        kind = backend_named(self.protocol.backend)
        return replace(self, protocol=kind.at_learning_rate(self.protocol, factor))

    def best_learning_rate(self, name: str) -> float:
        """The factor at which a finalist has the highest utility on the protocol's own seeds.

        A factor without a run of every seed is left out, as when training diverges there, and so is one whose runs
        cannot belong to the protocol.
        """
        if not self.protocol.finalist_learning_rates:
            return 1.0
        utilities = {1.0: -math.inf}
        for factor in (1.0, *self.protocol.finalist_learning_rates):
            tried = self.at_learning_rate(factor)
            runs, recorded = tried.runs(name, tried.protocol.seeds), Recorded(tried.protocol)
            found = self.objective.figures(runs)[UTILITY]
            if len(found) == len(tried.protocol.seeds) and not any(map(recorded.defects, runs)):
                utilities[factor] = math.fsum(found.values()) / len(found)
        return max(utilities, key=lambda factor: utilities[factor])

    def confirmation(self, name: str) -> Estimate | None:
        """The gain over the root on the fresh seeds, each at its best learning rate.

        None unless both have run on all of these seeds.
        """
        tables = self._fresh_figures(name)
        return None if tables is None else paired_difference(tables[0][UTILITY], tables[1][UTILITY], self.noise)

    def confirmed_violations(self, name: str) -> tuple[Violation, ...]:
        """The constraints that it violates on the fresh seeds; empty unless both have run on all of these seeds."""
        tables = self._fresh_figures(name)
        return () if tables is None else self.objective.violations(*tables)

    def _fresh_figures(self, name: str) -> tuple[Figures, Figures] | None:
        seeds = self.protocol.confirmation_seeds
        of, against = (
            self.objective.figures(self.at_learning_rate(self.best_learning_rate(each)).runs(each, seeds))
            for each in (name, ROOT)
        )
        complete = all(len(table[UTILITY]) == len(seeds) for table in (of, against))
        return (of, against) if name != ROOT and seeds and complete else None

    def stale_candidates(self, genealogy: Genealogy | None = None) -> tuple[str, ...]:
        """Candidates whose recorded utility and violations belong to another objective.

        These include candidates that failed because their runs lacked a figure of another objective.
        """
        return tuple(
            candidate.name
            for candidate in genealogy or self.archive.genealogy()
            if (metrics := candidate.metrics_under(self.protocol.hash)) and self._is_of_another_objective(metrics)
        )

    def _is_of_another_objective(self, metrics: Metrics) -> bool:
        if metrics.status is Status.FAILED:
            return metrics.stage == MEASURING and metrics.objective != self.objective.fingerprint
        if metrics.utility is None or not math.isfinite(metrics.utility.value):
            return False
        if metrics.objective:
            return metrics.objective != self.objective.fingerprint
        # No objective is recorded. If it uses only suites, the figures reveal it.
        weights = self.objective.of_suites
        if weights is None or self.objective.constraints or not weights.keys() <= metrics.values.keys():
            return True
        expected = overall({suite: estimate.value for suite, estimate in metrics.values.items()}, weights)
        return not math.isclose(expected, metrics.utility.value, abs_tol=ROUNDED)

    def evidence(self, proposal: Proposal, checked: Sequence[ClaimVerdict]) -> Evidence:
        """The evidence table of a reflection: the candidate against its parent and the root."""
        names = dict.fromkeys((proposal.name, proposal.parent or ROOT, ROOT))
        return gather_evidence(
            proposal.name,
            proposal.parent or ROOT,
            ROOT,
            self.protocol.hash,
            {name: self.runs(name, self.protocol.seeds) for name in names},
            {name: self.runs(name, self.protocol.further_seeds) for name in names},
            self.objective,
            proposal.claims,
            checked,
            self.noise,
        )


def protocol_files(archive: Archive) -> dict[str, str]:
    """The hash of every readable protocol on the archive's `main` branch, by file name."""
    found = {}
    for path, text in archive.list_texts(BRANCH, "protocols").items():
        with suppress(SettingsError):
            found[path.removesuffix(".yaml")] = load_protocol(text, f"protocols/{path}").hash
    return found


def _refuse_unknown_names(archive: Archive, settings: PoiseSettings) -> None:
    """Raises SettingsError for an unknown policy or executor."""
    for place, name, known in (
        (("search", "policy"), settings.search.policy, POLICIES),
        (("executor", "kind"), settings.executor.kind, EXECUTORS),
    ):
        if name not in known:
            text = archive.read_text(BRANCH, SETTINGS_FILE) or ""
            raise field_error(text, SETTINGS_FILE, place, f"unknown: {name}; known: {', '.join(known)}")


def load_poise_settings(archive: Archive, *, committed: bool = False) -> PoiseSettings:
    """Load `poise.yaml` from the archive's `main` branch; see `Experiment.load` for the errors."""
    text = archive.read_text(BRANCH, SETTINGS_FILE)
    if text is None:
        raise NotAnArchive(
            f"{archive.root}: branch {BRANCH} has no {SETTINGS_FILE}; create an archive: poise-git init DIR"
        )
    if not committed:
        _refuse_uncommitted(archive, SETTINGS_FILE, text)
    return load_settings(text, PoiseSettings, SETTINGS_FILE)


def _refuse_uncommitted(archive: Archive, file: str, committed: str) -> None:
    """Refuse an uncommitted edit, which would otherwise be ignored silently."""
    edited = archive.work_tree_text(BRANCH, file)
    if edited is not None and edited != committed:
        # For a broken file, the line of the error is more useful than the hint to commit it.
        if file == SETTINGS_FILE:
            load_settings(edited, PoiseSettings, file)
        keep = f"git commit -m settings -- {shlex.quote(file)}"
        raise UsageError(f"{file} has uncommitted changes; commit them: {keep}")
