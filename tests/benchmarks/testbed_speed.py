"""What a testbed run costs, and whether the testbed ranks algorithms.

python tests/benchmarks/testbed_speed.py                       CPU seconds of one run, by part
python tests/benchmarks/testbed_speed.py --ranking --seeds 4   learning-curve area over seeds, paired with GRPO
"""

from __future__ import annotations

import argparse
import ast
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from poise_git.archive.entries import Run
from poise_git.executors.stages import carry_out
from poise_git.pipeline.backends.testbed.backend import TestbedBackend
from poise_git.pipeline.backends.testbed.base_policies import ensure_base_policy
from poise_git.pipeline.backends.testbed.evaluation import evaluate_policy, held_out
from poise_git.pipeline.backends.testbed.settings import parse_settings
from poise_git.pipeline.backends.testbed.tasks import build_task
from poise_git.pipeline.backends.testbed.trainer import Trainer, load_policy
from poise_git.pipeline.candidate import Algorithm
from poise_git.pipeline.interface import Job, Progress
from poise_git.pipeline.protocol import Protocol, load_protocol
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings

TEMPLATE = Path(__file__).parents[2] / "recipe_template"

NO_STD = """
def scale(signal, rollouts):
    return torch.ones_like(signal)
"""
# Each algorithm is GRPO with these stage functions replaced.
ALGORITHMS: Mapping[str, tuple[str, ...]] = {
    "grpo": (),
    "no-std": (NO_STD,),
    "leave-one-out": (
        NO_STD,
        """
def baseline(signal, rollouts):
    others = (rollouts.group_size() - 1.0).clamp(min=1.0)
    return (rollouts.group_sum(signal) - signal) / others
""",
    ),
    "analytic-variance": (
        NO_STD,
        """
def shape_advantages(advantages, rollouts, alpha=0.5, valid_weight=0.4):
    p = (rollouts.group_sum(rollouts.correct) + alpha) / (rollouts.group_size() + 2 * alpha)
    right = (rollouts.correct - rollouts.group_mean(rollouts.correct)) / (p * (1 - p)).sqrt()
    return right + valid_weight * (rollouts.valid - rollouts.group_mean(rollouts.valid))
""",
    ),
    "noise": (
        """
def shape_advantages(advantages, rollouts):
    return advantages + torch.randn_like(advantages)
""",
    ),
}


def recipe_of(algorithm: str) -> dict[str, str]:
    """The template's recipe with the algorithm's stage functions in place of its own."""
    recipe = {file.name: file.read_text(encoding="utf-8") for file in (TEMPLATE / "recipe").glob("*.py")}
    for function in ALGORITHMS[algorithm]:
        name = next(node.name for node in ast.parse(function).body if isinstance(node, ast.FunctionDef))
        lines = recipe["algorithm.py"].splitlines()
        old = next(
            node
            for node in ast.parse(recipe["algorithm.py"]).body
            if isinstance(node, ast.FunctionDef) and node.name == name
        )
        lines[old.lineno - 1 : old.end_lineno] = function.strip().splitlines()
        recipe["algorithm.py"] = "\n".join(lines) + "\n"
    return recipe


def report(progress: Progress) -> None:
    if progress.done % 100 == 0:
        print(f"{progress.stage} {progress.done}/{progress.total}", flush=True)


def show_speed(protocol: Protocol, sandbox: Sandbox) -> None:
    """One GRPO run in this process, timed by part."""
    settings = parse_settings(protocol, protocol.name)
    file = ensure_base_policy(settings, settings.world(0), sandbox, lambda steps, loss: None)
    torch.set_num_threads(1)
    task = build_task(settings, settings.world(0))
    trainer = Trainer(settings, task, load_policy(settings, task, file), seed=0)
    steps = settings.training.steps
    with tempfile.TemporaryDirectory() as folder:
        for name, text in recipe_of("grpo").items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        algorithm = Algorithm(Path(folder))
        series = [trainer.step(step, algorithm) for step in range(1, steps + 1)]
    problems = held_out(task, list(protocol.suites), settings.evaluation.problems, 0)
    start = time.process_time()
    for step in settings.evaluation_steps():
        last = step == steps
        samples = settings.evaluation.final_samples if last else settings.evaluation.samples
        evaluate_policy(trainer.policy, task, problems, samples, settings.evaluation.pass_at if last else (), 0)
    seconds = trainer.cpu_seconds | {"evaluation": time.process_time() - start}
    rollouts = settings.training.prompts * settings.training.group_size
    tokens = sum(values["response_length"] for values in series) * rollouts
    print(f"{'part':<12} CPU s   tokens/s")
    for part, spent in seconds.items():
        rate = f"{tokens / spent:9.0f}" if part != "evaluation" else ""
        print(f"{part:<12} {spent:5.2f} {rate}")
    print(f"{'together':<12} {sum(seconds.values()):5.2f}")


def show_ranking(protocol: Protocol, sandbox: Sandbox, algorithms: list[str], seeds: int, workers: int) -> None:
    backend = TestbedBackend()

    def run(job: tuple[str, int]) -> Run:
        algorithm, seed = job
        with tempfile.TemporaryDirectory() as scratch:
            made = Job(algorithm, recipe_of(algorithm), protocol, seed, Path(scratch))
            done = carry_out(backend, made, sandbox, lambda progress: None, threading.Event())
        print(
            f"{algorithm:<18} seed {seed}  area {overall(protocol, done):.4f}  CPU {done.cpu_seconds:.1f} s", flush=True
        )
        return done

    jobs = [(algorithm, seed) for seed in range(seeds) for algorithm in algorithms]
    with ThreadPoolExecutor(max_workers=workers) as pool:
        runs = dict(zip(jobs, pool.map(run, jobs), strict=True))
    print(f"\n{'algorithm':<18} {'area':>16} {'minus grpo':>18} {'trained on':>16} {'valid':>6} {'CPU s':>6}")
    areas = {name: np.array([overall(protocol, runs[name, seed]) for seed in range(seeds)]) for name in algorithms}
    for name in algorithms:
        own = [runs[name, seed] for seed in range(seeds)]
        rates = np.array([np.mean(one.series["correct_rate"]) for one in own])
        valid = np.mean([one.series["valid_rate"][-1] for one in own])
        cpu = np.mean([one.cpu_seconds for one in own])
        paired = mean_and_error(areas[name] - areas["grpo"], "+")
        area, rate = mean_and_error(areas[name]), mean_and_error(rates)
        print(f"{name:<18} {area:>16} {paired:>18} {rate:>16} {valid:6.2f} {cpu:6.1f}")
    for seed in range(seeds):
        one = runs["grpo", seed]
        valid, right = one.series["valid_rate"][0], one.series["correct_rate"][0]
        start, end = one.curve[0]["overall"], one.curve[-1]["overall"]
        print(f"seed {seed}: base valid {valid:.2f}, right {right:.3f}; held out {start:.3f}, after GRPO {end:.3f}")


def overall(protocol: Protocol, run: Run) -> float:
    return sum(weight * run.values[suite] for suite, weight in protocol.suite_weights.items())


def mean_and_error(values: np.ndarray, sign: str = "") -> str:
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{values.mean():{sign}.4f} ± {error:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", type=Path, default=TEMPLATE / "protocols" / "testbed.yaml")
    parser.add_argument("--ranking", action="store_true")
    parser.add_argument("--algorithms", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    protocol = load_protocol(options.protocol.read_text(encoding="utf-8"), options.protocol.name)
    with Sandbox(SandboxSettings()) as sandbox:
        start = time.monotonic()
        TestbedBackend().prepare(protocol, sandbox, report, options.workers)
        print(f"base policies: {time.monotonic() - start:.0f} s")
        if options.ranking:
            show_ranking(protocol, sandbox, options.algorithms, options.seeds, options.workers)
        else:
            show_speed(protocol, sandbox)


if __name__ == "__main__":
    main()
