"""Recompute every archived figure from the archived runs, with the code that made it.

Verdicts depend only on the archive. They are cached by content, in memory and on disk, so that a listing computes only
what has changed. `doctor` and `check --all` compute all of them again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

from poise_git.archive import Archive
from poise_git.archive.conformity import Finding
from poise_git.archive.entries import ROOT, Candidate, Metrics, Run, Status
from poise_git.archive.genealogy import Genealogy
from poise_git.archive.notes import Trajectory, as_noted
from poise_git.archive.refs import MAIN, METRICS_NOTES, TRAJECTORY_NOTES, candidate_ref
from poise_git.errors import PoiseError
from poise_git.integrity.verdicts import NOTES, Account, Integrity, Mark, Problem, Verdict, judge
from poise_git.measurement.objective import Objective
from poise_git.measurement.statistics import Noise, understates
from poise_git.pipeline.backends.recorded import Recorded
from poise_git.pipeline.cache import cache_folder
from poise_git.pipeline.protocol import Protocol

# Increase this when the verdicts change for the same archive.
RULES = 3
# The number of candidates that a line names.
NAMED = 3
# Errors that untrusted runs may cause.
BROKEN = (
    PoiseError, KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip
RunsBySeed = Mapping[int, Run]


@dataclass(frozen=True)
class _Runs:
    """A candidate's runs under the protocol: the latest and the earliest of every seed."""

    trajectory: Trajectory
    all: tuple[Run, ...]
    latest: RunsBySeed
    earliest: RunsBySeed

    @classmethod
    def of(cls, trajectory: Trajectory, protocol: str) -> _Runs:
        own = tuple(run for run in trajectory.runs if run.protocol == protocol)
        return cls(trajectory, own, {run.seed: run for run in own}, {run.seed: run for run in reversed(own)})

    @cached_property
    def twice(self) -> frozenset[int]:
        """Seeds whose latest run has other figures than the earliest."""
        return frozenset(
            seed for seed, run in self.latest.items() if figures_of(run) != figures_of(self.earliest[seed])
        )


def figures_of(run: Run) -> str:
    """All figures of a run as text, for comparison to the last bit; NaN equals NaN."""
    data = run.to_data()
    return json.dumps([data["values"], data["details"], data["series"], data["curve"]], sort_keys=True, default=str)


class Measuring(Interface):
    """The part of an experiment that verdicts need."""

    @property
    def archive(self) -> Archive: ...

    @property
    def protocol(self) -> Protocol: ...

    @property
    def objective(self) -> Objective: ...

    @property
    def protocol_option(self) -> str: ...

    @property
    def noise(self) -> Noise | None: ...

    def metrics_of(
        self,
        runs: Sequence[Run],
        root_runs: Sequence[Run] | None,
        again: tuple[Sequence[Run], Sequence[Run]] = ((), ()),
    ) -> Metrics: ...


class Auditor:
    """The verdicts on the candidates of one experiment."""

    def __init__(self, experiment: Measuring) -> None:
        self.experiment, self.archive, self.protocol = experiment, experiment.archive, experiment.protocol
        # A protocol computes its hash at each access, so keep it.
        self._hash = self.protocol.hash
        self._state = ""
        self._verdicts: Mapping[str, Verdict] = {}
        self._kept: dict[str, Any] | None = None

    def verdicts(self, genealogy: Genealogy, *, anew: bool = False) -> Mapping[str, Verdict]:
        """The verdict on every candidate with figures under the protocol; `anew` ignores the cache."""
        state = self._key(
            self.archive.state(METRICS_NOTES, TRAJECTORY_NOTES),
            [(candidate.name, candidate.commit, candidate.evidence) for candidate in genealogy],
        )
        if state != self._state or anew:
            self._verdicts = self._doubted(self._read(genealogy, state, anew=anew))
            self._state = "" if genealogy.ahead else state
        return self._verdicts

    def counted(self, genealogy: Genealogy) -> Genealogy:
        """The genealogy with the figures that count: the figures of the runs, even if a note has others.

        A candidate without evidence for its figures counts as not evaluated.
        """
        changed = {
            name: verdict.counted
            for name, verdict in self.verdicts(genealogy).items()
            if verdict.counted != genealogy[name].metrics_under(self._hash)
        }
        if not changed:
            return genealogy
        return Genealogy(
            tuple(
                replace(candidate, metrics=self._replaced(candidate, changed[candidate.name]))
                if candidate.name in changed
                else candidate
                for candidate in genealogy
            ),
            ahead=genealogy.ahead,
        )

    def findings(self, genealogy: Genealogy) -> Iterator[Finding]:
        """Every problem, one per line, computed without the cache."""
        untraced = []
        for name, verdict in self.verdicts(genealogy, anew=True).items():
            for problem in verdict.problems:
                yield Finding(candidate_ref(name), problem.what, problem.advice)
            if verdict.integrity.mark is Mark.UNVERIFIED and not self.archive.trajectory(genealogy[name]).runs:
                untraced.append(name)
        if doubt := self.doubt(genealogy):
            advice = f"correct paired_deviation on {MAIN.rpartition('/')[2]}, then: poise-git reflect CANDIDATE"
            yield Finding(f"protocols/{self.protocol.name}.yaml", doubt, advice)
        if untraced:
            shown = ", ".join(untraced[:NAMED]) + (", …" if len(untraced) > NAMED else "")
            who = (
                f"1 candidate has figures ({shown})"
                if len(untraced) == 1
                else f"{len(untraced)} candidates have figures ({shown})"
            )
            yield Finding(
                TRAJECTORY_NOTES,
                f"{who} but no runs; trajectories are only in notes, so the figures cannot be recomputed",
                self._bring_runs(untraced[0]),
            )

    def _bring_runs(self, name: str) -> str:
        fetch = self.archive.fetch_notes_command()
        train = f"train one of them again: poise-git evaluate {name}{self.experiment.protocol_option}"
        return f"{fetch}, or {train}" if fetch else f"fetch the notes from the archive that trained them, or {train}"

    def _replaced(self, candidate: Candidate, counted: Metrics | None) -> dict[str, Metrics]:
        others = {protocol: own for protocol, own in candidate.metrics.items() if protocol != self._hash}
        return others if counted is None else {**others, self._hash: counted}

    def doubt(self, genealogy: Genealogy) -> str:
        """Why the intervals of this archive prove nothing; empty if nothing speaks against them."""
        return self._doubt(self.verdicts(genealogy).values())

    def _doubted(self, verdicts: Mapping[str, Verdict]) -> Mapping[str, Verdict]:
        """The verdicts, without a proof if the protocol states a noise that its runs contradict."""
        doubt = self._doubt(verdicts.values())
        return {
            name: replace(verdict, integrity=Integrity(Mark.UNVERIFIED, doubt))
            if doubt and verdict.integrity.mark is Mark.VERIFIED and name != ROOT
            else verdict
            for name, verdict in verdicts.items()
        }

    def _doubt(self, verdicts: Iterable[Verdict]) -> str:
        noise = self.experiment.noise
        gains = [verdict.counted.gain for verdict in verdicts if verdict.counted and verdict.counted.gain]
        if noise is None or not understates(noise, gains):
            return ""
        return (
            f"the protocol states paired_deviation {noise.deviation:g}, but most candidates differ by more between "
            "seeds"
        )

    # Reading.

    def _read(self, genealogy: Genealogy, state: str, *, anew: bool) -> dict[str, Verdict]:
        kept = {} if anew else self._read_kept()
        entries = kept.get("entries", {})
        if kept.get("state") == state:
            with suppress(*BROKEN):
                found = {
                    name: _verdict(entries[key], genealogy[name].metrics_under(self._hash))
                    for name, key in kept["names"].items()
                }
                return {name: verdict for name, verdict in found.items() if verdict is not None}
        root = _Runs.of(self.archive.trajectory(genealogy[ROOT]), self._hash)
        of_root = self._digest(genealogy[ROOT], root)
        notes = [self.archive.note_blobs(ref) for ref in (METRICS_NOTES, TRAJECTORY_NOTES)]
        verdicts: dict[str, Verdict] = {}
        written: dict[str, Any] = {}
        names: dict[str, str] = {}
        for candidate in genealogy:
            claimed = candidate.metrics_under(self._hash)
            if claimed is None:
                continue
            blobs = [of.get(candidate.commit, ()) for of in notes]
            key = self._key(candidate.name, candidate.commit, candidate.evidence, blobs, of_root)
            verdict = self._remembered(entries, key, candidate, root, genealogy[ROOT])
            if verdict is not None:
                if verdict.counted is not None and verdict.counted != claimed:
                    # Keep the noted runs, so that candidates compare as if nothing had been forged.
                    verdict = replace(verdict, counted=as_noted(verdict.counted))
                verdicts[candidate.name], names[candidate.name] = verdict, key
            written[key] = _data(verdict, claimed)
        # Verdicts are about the figures in the notes. A genealogy that is ahead has other figures.
        if not genealogy.ahead:
            self._keep({"state": state, "names": names, "entries": written})
        return verdicts

    def _remembered(
        self, entries: Mapping[str, Any], key: str, candidate: Candidate, root: _Runs, of_root: Candidate
    ) -> Verdict | None:
        """The verdict of the cache, or a new one if the cache has none, or one that is not readable."""
        if key in entries:
            with suppress(*BROKEN):
                return _verdict(entries[key], candidate.metrics_under(self._hash))
        return self._judge(candidate, root, of_root.metrics_under(self._hash))

    def _judge(self, candidate: Candidate, root: _Runs, root_metrics: Metrics | None) -> Verdict | None:
        try:
            return judge(self._account(candidate, root, root_metrics))
        except BROKEN as error:
            what = f"its figures are not numbers ({type(error).__name__})"
            problem = Problem(what, f"{NOTES} --ref=poise/metrics edit poise/{candidate.name}")
            return Verdict(Integrity(Mark.SUSPICIOUS, what), (problem,), None)

    def _account(self, candidate: Candidate, root: _Runs, root_metrics: Metrics | None) -> Account:
        protocol, name = self.protocol, candidate.name
        note = self.archive.noted_metrics(candidate).get(self._hash)
        evidence = self.archive.committed_metrics(candidate).get(self._hash)
        own = root if name == ROOT else _Runs.of(self.archive.trajectory(candidate), self._hash)
        claimed = note if note and note.status is Status.EVALUATED else evidence or note
        seeds = set(claimed.seeds) if claimed else set()
        further = tuple(seed for seed in protocol.further_seeds if seed in seeds)
        wanted = (*protocol.seeds, *further)
        rootless = name != ROOT and (
            any(seed not in root.latest for seed in protocol.seeds)
            or bool(further and claimed and claimed.gain and claimed.gain.n > len({*wanted} & root.latest.keys()))
        )
        missing = tuple(seed for seed in wanted if seed not in own.latest)
        recomputed: list[Metrics] = []
        failure = ""
        # Without the root's runs, seeds that were measured later cannot be aligned with earlier ones.
        if not missing and not (rootless and further):
            try:
                recomputed = self._recomputed(name, own, root, further, rootless=rootless)
            except BROKEN as error:
                failure = f"{type(error).__name__}: {error}" if not isinstance(error, PoiseError) else str(error)
        known = {*protocol.seeds, *protocol.further_seeds, *protocol.confirmation_seeds}
        return Account(
            name=name,
            note=note,
            evidence=evidence,
            objective=self.experiment.objective.fingerprint,
            root_objective=root_metrics.objective if root_metrics else "",
            runs=own.all,
            recomputed=recomputed,
            failure=failure,
            missing=missing,
            outside=tuple(seed for seed in sorted(seeds, key=str) if seed not in wanted),
            stray=tuple(sorted(own.latest.keys() - known)),
            rootless=rootless,
            twice=tuple(sorted((own.twice | root.twice) & {*wanted})),
            defects={seed: defects for seed, run in own.latest.items() if (defects := self._recorded.defects(run))},
            foreign=own.trajectory.foreign,
            reproductions=[each for each in own.trajectory.reproductions if each.protocol == self._hash],
            future=own.trajectory.future,
            unconfirmed=name != ROOT and _lacks(root, own, protocol.confirmation_seeds),
            option=self.experiment.protocol_option,
        )

    def _recomputed(
        self, name: str, own: _Runs, root: _Runs, further: Sequence[int], *, rootless: bool
    ) -> list[Metrics]:
        """The figures of the latest run of each seed, and of the earliest if they differ."""
        versions = []
        for of, against in product(
            (own.latest, own.earliest)[: 1 + bool(own.twice)], (root.latest, root.earliest)[: 1 + bool(root.twice)]
        ):
            runs = [of[seed] for seed in sorted(self.protocol.seeds)]
            if name == ROOT or rootless:
                versions.append(self.experiment.metrics_of(runs, None))
                continue
            root_runs = [against[seed] for seed in sorted(self.protocol.seeds)]
            again = tuple([each[seed] for seed in sorted(further) if seed in each] for each in (of, against))
            versions.append(self.experiment.metrics_of(runs, root_runs, (again[0], again[1])))
        return versions

    @cached_property
    def _recorded(self) -> Recorded:
        return Recorded(self.protocol)

    # Keeping.

    @cached_property
    def _common(self) -> str:
        """The inputs that all verdicts share."""
        protocol, experiment = self.protocol, self.experiment
        of_protocol = (protocol.hash, protocol.confirmation_seeds, protocol.paired_deviation)
        return repr((RULES, *of_protocol, experiment.objective.fingerprint, experiment.protocol_option))

    def _key(self, *parts: object) -> str:
        return hashlib.sha256(repr((self._common, parts)).encode()).hexdigest()[:32]

    def _digest(self, candidate: Candidate, root: _Runs) -> str:
        """The data of the root that verdicts on other candidates depend on."""
        confirmation = set(self.protocol.confirmation_seeds)
        figures = [(run.seed, figures_of(run)) for run in root.all if run.seed not in confirmation]
        confirmed = sorted(confirmation & root.latest.keys())
        metrics = candidate.metrics_under(self._hash)
        return self._key(figures, confirmed, metrics.objective if metrics else "")

    @cached_property
    def _file(self) -> Path:
        place = hashlib.sha256(os.fsencode(self.archive.root)).hexdigest()[:16]
        return cache_folder("integrity") / f"{place}-{self._hash}.json"

    def _read_kept(self) -> dict[str, Any]:
        if self._kept is None:
            self._kept = {}
            with suppress(OSError, ValueError, RecursionError):
                found = json.loads(self._file.read_text(encoding="utf-8"))
                self._kept = found if isinstance(found, dict) else {}
        return self._kept

    def _keep(self, kept: dict[str, Any]) -> None:
        """Write the cache; a failure only costs time."""
        self._kept = kept
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self._file.with_suffix(f".{os.getpid()}")
            unfinished.write_text(json.dumps(kept, separators=(",", ":")), encoding="utf-8")
            unfinished.replace(self._file)


def _lacks(root: _Runs, own: _Runs, seeds: Sequence[int]) -> bool:
    """Whether a candidate ran on all confirmation seeds and the root did not."""
    confirmed = bool(seeds) and all(seed in own.latest for seed in seeds)
    return confirmed and not all(seed in root.latest for seed in seeds)


def _data(verdict: Verdict | None, claimed: Metrics) -> dict[str, Any] | None:
    if verdict is None:
        return None
    data: dict[str, Any] = {
        "integrity": verdict.integrity.to_data(),
        "problems": [problem.to_data() for problem in verdict.problems],
        "traced": verdict.traced,
    }
    # Do not store data that the genealogy already holds.
    if verdict.counted != claimed:
        data["counted"] = verdict.counted.to_data() if verdict.counted else None
    return data


def _verdict(data: Mapping[str, Any] | None, claimed: Metrics | None) -> Verdict | None:
    if data is None:
        return None
    counted = claimed
    if "counted" in data:
        counted = Metrics.from_data(data["counted"]) if data["counted"] else None
    problems = tuple(Problem.from_data(problem) for problem in data["problems"])
    return Verdict(Integrity.from_data(data["integrity"]), problems, counted, bool(data["traced"]))
