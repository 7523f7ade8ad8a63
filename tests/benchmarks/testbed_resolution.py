"""The resolution of the testbed's protocol: trains the calibration set, and reports how well it ranks.

python tests/benchmarks/testbed_resolution.py run --results FILE --seeds 1000-1007 --workers 2
python tests/benchmarks/testbed_resolution.py run --results FILE --seeds 1000-1003 --learning-rate-factor 0.5
python tests/benchmarks/testbed_resolution.py report --results FILE

`run` trains the runs that FILE (JSON lines, one run each) does not have yet, and may be interrupted. `report` prints
Markdown. Both use the runs of one protocol: that of the protocol file, reduced by --regimes.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

from calibration import KINDS, ROOT, TEMPLATE
from calibration_figures import Calibration, begun_elsewhere
from calibration_runs import Record, Trainer, read_records, variant
from resolution_report import report

from poise_git.errors import PoiseError
from poise_git.measurement.figures import overall
from poise_git.pipeline.backends.testbed.backend import TestbedBackend
from poise_git.pipeline.backends.testbed.settings import parse_settings
from poise_git.pipeline.interface import Progress
from poise_git.pipeline.protocol import Protocol, load_protocol
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings


def seed_range(text: str) -> list[int]:
    """ "1000-1007" or "1000", both ends included."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def train(protocol: Protocol, options: argparse.Namespace) -> None:
    chosen = variant(protocol, options.regimes, options.learning_rate_factor, options.device)
    backend, began = TestbedBackend(), time.monotonic()
    backend.validate(chosen, str(options.protocol))

    def show_base_policies(progress: Progress) -> None:
        if progress.done % 200 == 0:
            print(f"{progress.stage} {progress.done}/{progress.total}", flush=True)

    def show(record: Record, done: int, of: int) -> None:
        seconds = record.training_seconds + record.evaluation_seconds
        result = record.failure or f"U {overall(record.values, chosen.suite_weights):.4f}  {seconds:.1f} CPU s"
        print(f"{done}/{of} {time.monotonic() - began:.0f} s  {record.algorithm} {record.seed}  {result}", flush=True)

    with Sandbox(SandboxSettings()) as sandbox:
        backend.prepare(chosen, sandbox, show_base_policies, options.workers)
        jobs = [(name, seed) for seed in options.seeds for name in options.algorithms]
        trainer = Trainer(chosen, options.learning_rate_factor, sandbox, options.results)
        trainer.train(jobs, options.workers, show)


def show_report(protocol: Protocol, options: argparse.Namespace) -> None:
    records = [
        record
        for record in read_records(options.results)
        if record.algorithm in options.algorithms and (not options.seeds or record.seed in options.seeds)
    ]
    # So many seeds in a row have every world of every regime equally often.
    worlds = math.lcm(*(len(regime.task.worlds) for regime in parse_settings(protocol, protocol.name).regimes.values()))

    def at(factor: float) -> Calibration:
        chosen = variant(protocol, options.regimes, factor, options.device)
        own = [record for record in records if record.protocol == chosen.hash]
        for record in own:
            if record.failure is not None:
                print(f"{record.algorithm}, seed {record.seed}, learning rate × {factor:g}: {record.failure}\n")
        for record in begun_elsewhere([record for record in own if record.failure is None]):
            print(f"{record.algorithm}, seed {record.seed}: not from the base policy of {ROOT}\n")
        found = Calibration.of(own, chosen.suite_weights, worlds)
        for name in sorted({record.algorithm for record in own} - set(found.algorithms)):
            print(f"{name}, learning rate × {factor:g}: left out, without a run to compare for every seed of {ROOT}\n")
        return found

    here = at(1.0)
    if not here.records:
        raise SystemExit(f"{options.results} has no run of {ROOT} under this protocol")
    factors = sorted({record.learning_rate_factor for record in records} - {1.0})
    print(report(here, {factor: found for factor in factors if (found := at(factor)).records}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run, tables = commands.add_parser("run"), commands.add_parser("report")
    for command in (run, tables):
        command.add_argument("--results", type=Path, required=True)
        command.add_argument("--protocol", type=Path, default=TEMPLATE / "protocols" / "testbed.yaml")
        command.add_argument("--regimes", nargs="+", default=[])
        command.add_argument("--device", choices=["cpu", "cuda"])
        command.add_argument("--algorithms", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="NAME")
    run.add_argument("--seeds", type=seed_range, required=True)
    run.add_argument("--learning-rate-factor", type=float, default=1.0)
    run.add_argument("--workers", type=int, default=1)
    tables.add_argument("--seeds", type=seed_range, default=[])
    options = parser.parse_args()
    try:
        protocol = load_protocol(options.protocol.read_text(encoding="utf-8"), options.protocol.name)
        (train if options.command == "run" else show_report)(protocol, options)
    except PoiseError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
