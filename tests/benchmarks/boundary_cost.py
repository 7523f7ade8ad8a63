"""The cost of the boundary between a candidate and its trainer.

python tests/benchmarks/boundary_cost.py --part a --results FILE [--pairs 7]
python tests/benchmarks/boundary_cost.py --part b --results FILE [--pairs 2]
python tests/benchmarks/boundary_cost.py --part c --results FILE

a  CPU seconds of a run of `quick`, training and evaluation, including the candidate's processes, with and without
   the boundary
b  the same of `cpu-smoke`: verl, vLLM and Ray, minutes each
c  for the shapes of `paper`: bytes, and milliseconds with and without the boundary, of each call

Runs with and without are interleaved, and their order alternates. FILE (JSON lines, one measurement each) is written
continuously; its measurements are not repeated. For a and b, the machine should be idle.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from calibration import ROOT, TEMPLATE, recipe_of
from torch import Tensor

from poise_git.pipeline.backends.testbed.backend import TestbedBackend
from poise_git.pipeline.backends.verl.backend import VerlBackend
from poise_git.pipeline.boundary.algorithm import GuardedAlgorithm
from poise_git.pipeline.boundary.door import CANDIDATE, Door
from poise_git.pipeline.boundary.hosting import Containment, host
from poise_git.pipeline.boundary.opening import trusted_algorithm
from poise_git.pipeline.boundary.process import CandidateProcess
from poise_git.pipeline.interface import Backend, Job, Progress
from poise_git.pipeline.protocol import Protocol, load_protocol
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings

BACKENDS: Mapping[str, tuple[str, type[Backend], int]] = {
    "a": ("quick", TestbedBackend, 7),
    "b": ("cpu-smoke", VerlBackend, 2),
}
SIDES = {"wall": Containment(may_lack_layers=True), "trusted": Containment(trusted=True)}
CALLS = 9

Record = dict[str, Any]


def read(file: Path) -> list[Record]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def keep(file: Path, record: Record) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record) + "\n")
    print(json.dumps(record), flush=True)


def protocol_of(name: str) -> Protocol:
    path = TEMPLATE / "protocols" / f"{name}.yaml"
    return load_protocol(path.read_text(encoding="utf-8"), path.name)


def time_runs(part: str, pairs: int, results: Path) -> None:
    name, kind, _ = BACKENDS[part]
    protocol, backend = protocol_of(name), kind()
    there = {(record["pair"], record["side"]) for record in read(results) if record["part"] == part}
    with Sandbox(SandboxSettings(wall_seconds=3600, cpu_seconds=3600)) as sandbox:
        backend.prepare(protocol, sandbox, lambda progress: None, 1)
        # The first call of a process includes its imports.
        if any((pair, side) not in there for pair in range(pairs) for side in SIDES) and part == "a":
            time_run(backend, protocol, "wall", sandbox)
        for pair in range(pairs):
            order = list(SIDES) if pair % 2 else list(reversed(SIDES))
            for side in order:
                if (pair, side) not in there:
                    measured = time_run(backend, protocol, side, sandbox)
                    keep(results, {"part": part, "pair": pair, "side": side, **measured, "load": os.getloadavg()[0]})


def time_run(backend: Backend, protocol: Protocol, side: str, sandbox: Sandbox) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        # Another user must be able to work in it.
        os.chmod(folder, 0o755)
        began = time.monotonic()
        job = Job(ROOT, recipe_of(ROOT), protocol, protocol.seeds[0], Path(folder), containment=SIDES[side])
        trained = backend.train(job, sandbox, _quiet, threading.Event())
        evaluation = sum(
            backend.evaluate(job, trained, shard, sandbox, _quiet, threading.Event()).cpu_seconds
            for shard in backend.shards(protocol)
        )
        return {
            "training": trained.cpu_seconds,
            "cpu_seconds": trained.cpu_seconds + evaluation,
            "seconds": time.monotonic() - began,
        }


def _quiet(progress: Progress) -> None:
    return


def show_runs(part: str, results: Path) -> None:
    found = {(record["pair"], record["side"]): record for record in read(results) if record["part"] == part}
    pairs = sorted({pair for pair, _ in found if all((pair, side) in found for side in SIDES)})
    if not pairs:
        return
    print(f"{BACKENDS[part][0]}: {len(pairs)} pairs")
    for what in ("training", "cpu_seconds", "seconds"):
        wall, trusted = ([found[pair, side][what] for pair in pairs] for side in SIDES)
        added = [one - other for one, other in zip(wall, trusted, strict=True)]
        error = statistics.stdev(added) / len(added) ** 0.5 if len(added) > 1 else math.inf
        mean = statistics.mean(trusted)
        print(
            f"  {what:<12} without {mean:.2f} s; the wall adds {statistics.mean(added):+.2f} ± {error:.2f} s, "
            f"{100 * statistics.mean(added) / mean:+.1f} ± {100 * error / mean:.1f}%; the fastest of each "
            f"{min(trusted):.2f} and {min(wall):.2f} s, {100 * (min(wall) / min(trusted) - 1):+.1f}%"
        )


def shapes() -> dict[str, tuple[int, int]]:
    """Rows and columns of a call of `paper`: a whole step's advantages, and one micro-batch on one GPU."""
    settings = protocol_of("paper").settings
    training, hardware = settings["training"], settings["hardware"]
    tokens = training["max_response_tokens"]
    longest = tokens + settings["data"]["max_prompt_tokens"]
    return {
        "advantages": (training["prompts"] * training["group_size"], tokens),
        "loss": (max(1, hardware["micro_batch_tokens"] // longest), tokens),
    }


def inputs(rows: int, columns: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(columns // 4, columns + 1, (rows, 1), generator=generator)
    mask = (torch.arange(columns) < lengths).long()
    rewards = torch.zeros(rows, columns)
    drawn = torch.tensor([0.0, 0.1, 1.0])[torch.randint(3, (rows, 1), generator=generator)]
    rewards.scatter_(1, lengths - 1, drawn)
    old = -torch.rand(rows, columns, generator=generator)
    new = old + 0.05 * torch.randn(rows, columns, generator=generator)
    advantages = torch.randn(rows, 1, generator=generator) * mask
    index = [f"prompt-{number // 8}" for number in range(rows)]
    return {"rewards": rewards, "mask": mask, "index": index, "old": old, "new": new, "advantages": advantages}


def call(algorithm: GuardedAlgorithm, what: str, given: Mapping[str, Any]) -> tuple[Tensor, ...]:
    if what == "advantages":
        return (algorithm.advantages(given["rewards"], given["mask"], given["index"]),)
    sizes = {"dp_size": 8, "batch_num_tokens": 1e6, "global_batch_size": 2048, "loss_scale_factor": 3000}
    found = algorithm.gradient(
        given["old"], given["new"], given["advantages"], given["mask"].bool(), "token-mean", sizes
    )
    return found.by_log_probs, torch.tensor(found.loss)


def bytes_of(what: str, given: Mapping[str, Any]) -> dict[str, int]:
    if what == "advantages":
        return {"sent": given["rewards"].nbytes + given["mask"].nbytes + 8 * len(given["index"]),
                "received": 2 * given["rewards"].nbytes}  # fmt: skip
    tensors = (given["old"], given["new"], given["advantages"], given["mask"].bool())
    return {"sent": sum(tensor.nbytes for tensor in tensors), "received": given["new"].nbytes}


@contextmanager
def behind_the_wall(sandbox: Sandbox) -> Iterator[GuardedAlgorithm]:
    with host(sandbox, {CANDIDATE: recipe_of(ROOT)}, may_lack_layers=True) as running:
        door = Door(os.dup(running.door))
        yield GuardedAlgorithm(CandidateProcess.opened(door), None, 0)


def time_calls(results: Path) -> None:
    torch.set_num_threads(1)
    there = {(record["call"], record["side"]) for record in read(results) if record["part"] == "c"}
    without = trusted_algorithm(recipe_of(ROOT))
    with Sandbox(SandboxSettings()) as sandbox, behind_the_wall(sandbox) as behind:
        for what, (rows, columns) in shapes().items():
            given = inputs(rows, columns)
            if any((what, side) not in there for side in SIDES):
                pairs = zip(call(behind, what, given), call(without, what, given), strict=True)
                assert all(torch.equal(one, other) for one, other in pairs), "the numbers differ"
                times: dict[str, list[float]] = {side: [] for side in SIDES}
                for _ in range(CALLS):
                    for side, algorithm in zip(SIDES, (behind, without), strict=True):
                        began = time.perf_counter()
                        call(algorithm, what, given)
                        times[side].append(1000 * (time.perf_counter() - began))
                for side in SIDES:
                    record = {"part": "c", "call": what, "side": side, "shape": [rows, columns],
                              **bytes_of(what, given), "milliseconds": times[side]}  # fmt: skip
                    keep(results, record)


def show_calls(results: Path) -> None:
    found = {(record["call"], record["side"]): record for record in read(results) if record["part"] == "c"}
    for what in dict.fromkeys(what for what, _ in found):
        record = found[what, "wall"]
        wall, trusted = (found[what, side]["milliseconds"] for side in SIDES)
        rows, columns = record["shape"]
        print(
            f"{what:<10} {rows} x {columns}: {record['sent'] / 1e6:.2f} MB there, {record['received'] / 1e6:.2f} MB "
            f"back; with {statistics.median(wall):.2f} ms ({min(wall):.2f} to {max(wall):.2f}), without "
            f"{statistics.median(trusted):.2f} ms ({min(trusted):.2f} to {max(trusted):.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("a", "b", "c"), required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--pairs", type=int, help="default: 7 for a, 2 for b")
    options = parser.parse_args()
    if options.part == "c":
        time_calls(options.results)
        show_calls(options.results)
    else:
        time_runs(options.part, options.pairs or BACKENDS[options.part][2], options.results)
        show_runs(options.part, options.results)


if __name__ == "__main__":
    main()
