"""The cost of three contexts: `python tests/benchmarks/context_cost.py [--sizes 64 10000]`, milliseconds of one core.

A real git archive of so many candidates is written in one stream, with proposals, metrics and reflections as long as
those of the library agent. Then three parents are selected and their contexts built:

    genealogy   reading all refs, commits and metrics
    select      the survey and the selection of three parents
    contexts    of these three, without the agent's work
    read before the same once more, as in a running search, which has read the evidence commits before
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from poise_git.archive import Archive
from poise_git.archive.documents import dump_reflection, dump_yaml
from poise_git.archive.entries import ROOT, Claim, Estimate, Metrics, Proposal, Reflection, Run, Status
from poise_git.archive.facts import ReflectionFacts
from poise_git.archive.messages import describe, format_candidate
from poise_git.archive.notes import metrics_line, note_path
from poise_git.archive.refs import METRICS_NOTES, candidate_ref, evidence_ref
from poise_git.archive.stream import CommitStream
from poise_git.archive.writer import ALGORITHM, metrics_path, proposal_path, publish, reflection_path
from poise_git.experiment import Experiment
from poise_git.search.literature import Card
from poise_git.search.selection import policy_of
from poise_git.search.selection.survey import survey
from poise_git.template import create_archive

FAILED_SHARE = 0.1
# The best of so many repeats is printed, because other load only makes a measurement slower.
REPEATS = 12
# This archive is private, so git need not sync to disk, and no hook need check twenty thousand refs.
QUICKLY = ("-c", "core.fsync=none", "-c", "core.hooksPath=/dev/null")
FIGURES = (
    "utility",
    "acc@1",
    "valid_rate",
    "mean_length",
    "pass@2",
    "pass@8",
    "reward",
    "entropy",
    "kl",
    "clip_fraction",
)
FOCUS = (("entropy", "exploration"), ("validity",), ("all-fail", "rare-success"), ("clip", "ratio"), ())


def fill(archive: Archive, size: int) -> None:
    """Random candidates: each takes a random older one as its parent and a random card as its mechanism."""
    experiment, lot, repository = Experiment.load(archive), random.Random(size), archive.repository
    cards = [card for card in experiment.cards if card.edits]
    source = archive.recipe(ROOT)["algorithm.py"]
    archive.add_evidence(
        ROOT, metrics(experiment, 0.2, None), Reflection(ReflectionFacts.from_data({"verdict": "root"}), "The root.")
    )
    utilities, commits = {ROOT: 0.2}, {ROOT: repository.object_id(candidate_ref(ROOT)) or ""}
    stream, evidence, notes = CommitStream(repository.identity), dict[str, str](), dict[str, str]()
    for number in range(1, size):
        name, parent, card = f"candidate-{number}", lot.choice(list(utilities)), lot.choice(cards)
        utility, failed = utilities[parent] + lot.gauss(0.0, 0.01), lot.random() < FAILED_SHARE
        of = proposal(name, parent, card)
        text = source.replace("    return advantages\n", f"    return advantages * {1 + lot.random():.6f}\n", 1)
        commits[name] = stream.commit(format_candidate(describe(of)), [commits[parent]], {ALGORITHM: text})
        measured = failure(experiment) if failed else metrics(experiment, utility, utility - 0.2)
        files = {proposal_path(name): dump_yaml(of.to_data()), metrics_path(name): dump_yaml(measured.to_data())}
        if not failed:
            files[reflection_path(name)] = dump_reflection(reflection(card, lot))
            utilities[name] = utility
        evidence[name] = stream.commit(f"evidence({name})\n", [commits[name]], files)
        notes[name] = metrics_line(measured, 0.0) + "\n"
    made = repository.fast_import(stream)
    refs = [f"create {candidate_ref(name)} {made[commits[name]]}\n" for name in notes]
    refs += [f"create {evidence_ref(name)} {made[commit]}\n" for name, commit in evidence.items()]
    repository.run("update-ref", "--stdin", stdin="".join(refs).encode(), options=QUICKLY)
    lines = {note_path(made[commits[name]]): line for name, line in notes.items()}
    publish(repository, [METRICS_NOTES], lambda change: change.grow(METRICS_NOTES, "notes\n", lines))
    archive.maintain()


def proposal(name: str, parent: str, card: Card) -> Proposal:
    claims = tuple(Claim(claim.statement, claim.check, claim.arguments) for claim in card.claims)
    hypothesis = f"{card.mechanism} In formula: {card.formula}. When it helps: {card.helps} Against it: {card.risks}"
    return Proposal(
        name, parent, card.title, hypothesis, card.family, "library", {"scale.epsilon": 1e-6}, claims, (card.name,),
        {"operation": "add", "card": card.name, "knobs": {}},
    )  # fmt: skip


def metrics(experiment: Experiment, utility: float, gain: float | None) -> Metrics:
    return Metrics(
        Status.EVALUATED, experiment.protocol.hash, Estimate(utility, 0.004, 4),
        None if gain is None else Estimate(gain, 0.003, 4),
        {suite: Estimate(utility, 0.005, 4) for suite in experiment.protocol.suite_weights},
        dynamics=dict.fromkeys(FIGURES, utility), seeds=experiment.protocol.seeds,
        objective=experiment.objective.fingerprint,
    )  # fmt: skip


def failure(experiment: Experiment) -> Metrics:
    return Metrics(Status.FAILED, experiment.protocol.hash, stage="numeric", reason="the gradient is not finite")


def reflection(card: Card, lot: random.Random) -> Reflection:
    table = {
        figure: {"value": lot.random(), "difference": lot.gauss(0.0, 0.01), "se": 0.003, "direction": "within noise"}
        for figure in FIGURES
    }
    root = {figure: dict(row) for figure, row in table.items()}
    focus = lot.choice(FOCUS)
    prose = f"{card.title}. {card.helps} {card.risks} Try {' and '.join(focus)}.\n" * 4
    facts = ReflectionFacts.from_data(
        {
            "verdict": "within noise",
            "against_parent": table,
            "against_root": root,
            "focus": list(focus),
            "next": [f"Keep {card.name}; combine it with mechanisms of other stages."],
        }
    )
    return Reflection(facts, prose)


def add_runs(experiment: Experiment, name: str) -> None:
    """Trajectories of the length of the testbed's, of every seed."""
    regimes = tuple(experiment.protocol.suite_weights)
    series = {f"{regime}/{figure}": tuple(step / 7 for step in range(30)) for regime in regimes for figure in FIGURES}
    for seed in experiment.protocol.seeds:
        values = dict.fromkeys(regimes, 0.2)
        experiment.archive.add_run(name, Run(experiment.protocol.hash, seed, values, {}, series, (), 1.0))


def clock() -> float:
    """CPU seconds of this process without those of git, so that a busy machine matters less."""
    return time.process_time()


def measure(experiment: Experiment) -> tuple[dict[str, float], tuple[str, ...]]:
    """Milliseconds of each step, and the parents."""
    times: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal started
        now = clock()
        times[name], started = 1000 * (now - started), clock()

    started = clock()
    genealogy = experiment.archive.genealogy()
    lap("genealogy")
    surveyed = survey(genealogy, experiment.protocol.hash, experiment.objective)
    settings = experiment.settings.search
    chosen = [choice.name for choice in policy_of(settings).select(surveyed, 3, 0).choices]
    lap("select")
    contexts = experiment.contexts(genealogy, surveyed, 0)
    for name in chosen:
        contexts.of(name, genealogy.by_name)
    lap("contexts")
    return times, tuple(chosen)


def report(size: int, what: str, times: Mapping[str, float]) -> None:
    both = times["select"] + times["contexts"]
    steps = "  ".join(f"{name} {value:7.1f}" for name, value in times.items())
    print(f"{size:6d} candidates, {what:12s} {steps}  select + contexts {both:7.1f} ms")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", type=int, nargs="+", default=[64, 10_000])
    with tempfile.TemporaryDirectory() as scratch:
        for place, size in enumerate(arguments.parse_args().sizes):
            archive = create_archive(Path(scratch) / str(place), directive="accurate and concise")
            fill(archive, size)
            experiment = Experiment.load(archive)
            _, parents = measure(experiment)
            for name in parents:
                add_runs(experiment, name)
            # Modules are loaded by now, but this archive has not been read yet.
            experiment = replace(experiment, archive=Archive.open(archive.root))
            report(size, "never read", measure(experiment)[0])
            again = (measure(experiment)[0] for _ in range(REPEATS))
            best = min(again, key=lambda times: times["select"] + times["contexts"])
            report(size, "read before", best)


if __name__ == "__main__":
    main()
