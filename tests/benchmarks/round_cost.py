"""The cost of a round of three parents without training and checks, in this checkout and in another.

python tests/benchmarks/round_cost.py --against PATH [--sizes 100 1000] [--rounds 5] [--results FILE]

PATH is a checkout of another version. The script writes an archive of so many candidates. Each version gets a copy and
a process of its own, in which `evolve` runs with the library agent. Checks pass at once, and runs end at once with
random figures. The versions take turns, one round each, and their order alternates. A round is the work of `evolve`
from one plan to the next: writing the children, archiving runs, reflections and figures, and planning again. The first
round of a process does not count, because it fills the caches of later rounds. Distillation, which an agent does in
every second round, is left out.

FILE (JSON lines, one round each) is written continuously; a size and version that it holds in full is not repeated.
`cpu` is CPU seconds, those of git included. `agent` is the part that the library agent takes to propose, screen and
implement, and `loop` is the rest. `git` counts the git processes that were started.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).resolve().parents[2]
ROOT = "grpo"
FIGURES = ("entropy", "valid_rate", "mean_length", "reward", "kl", "clip_fraction", "gradient_norm")
STEPS = 30
DISTILL = re.compile(r"(distill?_every): 2\b")
TIMED = ("propose", "screen", "implement")
PRINTED = ("loop", "agent", "cpu", "wall", "git")

Record = dict[str, Any]


def first_of(*names: str) -> Any:
    """The first of these that this version has, each as `module:name`."""
    for place in names:
        module, _, name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(" or ".join(names))


# Of each version, in a process that has it on its path.


def make(folder: Path, size: int) -> None:
    """An archive of `size` candidates, with the root's runs and figures that follow from them."""
    from context_cost import fill

    from poise_git.archive.entries import Reflection
    from poise_git.experiment import Experiment

    create_archive = first_of("poise_git.template:create_archive", "poise_git.creation:create_archive")
    archive = create_archive(folder)
    settings = folder / "poise.yaml"
    text = settings.read_text(encoding="utf-8")
    assert DISTILL.search(text)
    settings.write_text(DISTILL.sub(r"\1: 1000000", text), encoding="utf-8")
    subprocess.run(["git", "-C", folder, "commit", "-qam", "settings: without distilling"], check=True)
    fill(archive, size)
    experiment = Experiment.load(archive)
    for seed in experiment.protocol.seeds:
        archive.add_run(ROOT, run_by_lot(experiment.protocol, ROOT, seed))
    metrics = experiment.measure(ROOT, experiment.runs(ROOT, experiment.protocol.seeds))
    archive.add_evidence(ROOT, metrics, Reflection(facts_of({"verdict": "root"}), "The root."))


def facts_of(data: dict[str, Any]) -> Any:
    """The facts of a reflection; 4ea6386 has no class for them."""
    try:
        return first_of("poise_git.archive.facts:ReflectionFacts").from_data(data)
    except ImportError:
        return data


def run_by_lot(protocol: Any, name: str, seed: int) -> Any:
    """Made-up figures of one training; the same candidate and seed give the same figures."""
    from poise_git.archive.entries import Run

    lot, suites = random.Random(f"{name} {seed}"), tuple(protocol.suite_weights)
    values = {suite: 0.2 + lot.gauss(0.0, 0.01) for suite in suites}
    series = {
        f"{suite}/{figure}": tuple(0.5 + lot.random() / 7 for _ in range(STEPS))
        for suite in suites
        for figure in FIGURES
    }
    return Run(protocol.hash, seed, values, {}, series, (), 1.0)


class Instantly:
    """An executor whose runs end at once."""

    def prepare(self, protocol: Any, on_progress: Callable[..., None]) -> None:
        return

    def run(self, jobs: Sequence[Any], on_progress: Callable[..., None]) -> Iterator[Any]:
        make_outcome = first_of(
            "poise_git.pipeline.executors.interface:Outcome", "poise_git.executors.interface:Outcome"
        )
        for job in jobs:
            yield make_outcome(job, run_by_lot(job.protocol, job.candidate, job.seed), None)


class Counting:
    """Count the git processes, by a wrapper around the function with which Python starts processes."""

    def __init__(self) -> None:
        self.git = 0
        started = subprocess.Popen.__init__

        def start(process: Any, command: Any, *arguments: Any, **options: Any) -> None:
            words = [command] if isinstance(command, (str, bytes)) else list(command)
            self.git += Path(os.fsdecode(words[0])).name == "git"
            started(process, command, *arguments, **options)

        subprocess.Popen.__init__ = start


class Enough(BaseException):
    """Standard input has ended, so no further round is requested."""


class Clock:
    """An observer that measures from plan to plan, and waits for a line on standard input before each round."""

    def __init__(self, archive: Any, counting: Counting) -> None:
        self.archive, self.counting, self.agent = archive, counting, 0.0
        self.began = self._now()

    def __call__(self, event: Any) -> None:
        if type(event).__name__ == "RoundPlanned":
            now = self._now()
            taken = {name: now[name] - before for name, before in self.began.items()}
            planned = self.archive.rounds(event.number - 1)[-1]
            chosen = json.dumps([planned["acquisition"]["choices"], planned["slots"]], sort_keys=True, default=str)
            say(
                {
                    **taken,
                    "loop": taken["cpu"] - taken["agent"],
                    "plan": hashlib.sha256(chosen.encode()).hexdigest()[:12],
                }
            )
            if not sys.stdin.readline().strip():
                raise Enough
            self.began = self._now()

    def timed(self, agent: Any) -> Any:
        """The agent, with its own work timed."""
        for name in TIMED:
            setattr(agent, name, self._timed(getattr(agent, name)))
        return agent

    def _timed(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            began = time.process_time()
            try:
                return act(*arguments)
            finally:
                self.agent += time.process_time() - began

        return timed

    def _now(self) -> dict[str, float]:
        times = os.times()
        return {"cpu": sum(times[:4]), "wall": time.perf_counter(), "agent": self.agent, "git": self.counting.git}


def say(record: Record) -> None:
    print(json.dumps(record), flush=True)


def search(folder: Path) -> None:
    """Run `evolve` on the archive in `folder` until standard input ends."""
    from poise_git.agents.library.agent import LibraryAgent
    from poise_git.archive import Archive
    from poise_git.experiment import Experiment

    archive = Archive.open(folder)
    clock = Clock(archive, Counting())
    with suppress(Enough):
        evolve(Experiment.load(archive), clock.timed(LibraryAgent()), clock)


def evolve(experiment: Any, agent: Any, observe: Callable[[Any], None]) -> None:
    """An endless search whose checks pass at once and whose runs end at once."""
    from poise_git import loop
    from poise_git.pipeline.checks import CheckReport

    def check_candidate(*_: object) -> CheckReport:
        return CheckReport((), None, ())

    goal, executor = loop.Goal(candidates=10**6), Instantly()
    if hasattr(loop, "Search"):
        loop.check_candidate = check_candidate
        loop.Search(experiment, agent, None, executor, None, observe).evolve(goal)
        return
    from poise_git.agents.library.provenance import Provenance
    from poise_git.steps import verify
    from poise_git.steps.containment import Containing
    from poise_git.steps.session import Session

    verify.check_candidate = check_candidate
    containing = Containing(Provenance(experiment.archive))
    loop.evolve(Session(experiment, agent, executor, None, containing, observe), goal)


# Both versions, in a process that has neither.


def of_version(checkout: Path, scratch: Path, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """This file in a process that has the checkout's package and benchmarks on its path."""
    path = os.pathsep.join(map(str, (checkout, checkout / "tests" / "benchmarks")))
    environment = {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": str(scratch / "cache")}
    command = [sys.executable, "-P", __file__, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, **options)


def measure(size: int, versions: dict[str, Path], rounds: int, results: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        scratch, workers = Path(folder), {}
        maker = of_version(versions["against"], scratch, "--make", scratch / "archive", "--sizes", size)
        if maker.wait():
            raise SystemExit(f"no archive of {size} candidates")
        for name, checkout in versions.items():
            own = scratch / name
            shutil.copytree(scratch / "archive", own / "archive")
            worker = of_version(checkout, own, "--search", own / "archive", stdin=subprocess.PIPE)
            workers[name] = processes.enter_context(worker)
        # The first plan of a process, then the first round.
        for name in workers:
            keep(results, {"size": size, "version": name, "round": 0, **heard(workers[name])})
        for number in range(1, rounds + 2):
            for name in list(workers)[:: 1 if number % 2 else -1]:
                ask(workers[name], "round")
                keep(results, {"size": size, "version": name, "round": number, **heard(workers[name])})
        for worker in workers.values():
            ask(worker, "")


def ask(worker: subprocess.Popen[str], what: str) -> None:
    assert worker.stdin is not None
    worker.stdin.write(f"{what}\n")
    worker.stdin.flush()


def heard(worker: subprocess.Popen[str]) -> Record:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"the process of {worker.args!r} has ended")
    found: Record = json.loads(line)
    return found


def keep(results: Path, record: Record) -> None:
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in record.items()}
    with results.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(rounded) + "\n")
    print(json.dumps(rounded), flush=True)


def read(results: Path) -> list[Record]:
    """The rounds of the file, each once; the newest counts if a size was measured again."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    found = {(record["size"], record["version"], record["round"]): record for record in map(json.loads, lines)}
    return list(found.values())


def table(records: Sequence[Record]) -> Iterator[str]:
    """Medians over rounds with their range, and the ratio of the medians."""
    yield f"{'candidates':>10} {'':8} {'against':>26} {'this':>26} {'ratio':>7}"
    for size in sorted({record["size"] for record in records}):
        rounds = [record for record in records if record["size"] == size]
        for name in PRINTED:
            of = {
                version: [each[name] for each in rounds if each["version"] == version and each["round"] > 1]
                for version in ("against", "this")
            }
            if not all(of.values()):
                continue
            cells = [f"{statistics.median(own):9.3f} ({min(own):.3f}-{max(own):.3f})" for own in of.values()]
            before = statistics.median(of["against"])
            ratio = f"{statistics.median(of['this']) / before:7.3f}" if before else ""
            yield f"{size:10d} {name:8} {cells[0]:>26} {cells[1]:>26} {ratio}"
        plans = {version: [r["plan"] for r in rounds if r["version"] == version] for version in ("against", "this")}
        same = sum(one == other for one, other in zip(plans["against"], plans["this"], strict=False))
        yield f"{size:10d} plans    {same} of {len(plans['this'])} are the same"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--against", type=Path, help="a checkout of another version")
    arguments.add_argument("--sizes", type=int, nargs="+", default=[100, 1000])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--results", type=Path, default=Path("round_cost.jsonl"))
    arguments.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.make:
        make(given.make, given.sizes[0])
    elif given.search:
        search(given.search)
    else:
        versions = {"against": (given.against or HERE).resolve(), "this": HERE}
        for size in given.sizes:
            measured = {(record["size"], record["version"], record["round"]) for record in read(given.results)}
            if any((size, name, given.rounds + 1) not in measured for name in versions):
                measure(size, versions, given.rounds, given.results)
        print("\n".join(table(read(given.results))))


if __name__ == "__main__":
    main()
