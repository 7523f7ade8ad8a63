"""Held-out evaluation of one shard inside the sandbox: vLLM generates, graders grade. No candidate is loaded."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from poise_git.pipeline.backends.verl.failures import crash
from poise_git.pipeline.backends.verl.generation import Request, Responses, SuiteRequest, count_answered, read_responses
from poise_git.pipeline.backends.verl.grader import Grader, Question
from poise_git.pipeline.backends.verl.launching import environment, log_tail, python
from poise_git.pipeline.backends.verl.scores import GradedSample, score_suite
from poise_git.pipeline.backends.verl.settings import VerlSettings
from poise_git.pipeline.backends.verl.suites import Problem
from poise_git.pipeline.backends.verl.training_data import ask

LOG = "generation.log"
_POLL_SECONDS = 1.0
_MEMORY_SHARE = 0.9

Send = Callable[[Mapping[str, Any]], None]


def evaluate(arguments: Mapping[str, Any], send: Send) -> dict[str, Any]:
    """Child process: evaluate one shard in the working directory.

    Args:
        arguments: `settings`, `seed`, `weights` (folder in Hugging Face format), `gpus` (names), `cpus` (cores), and
            `problems`: suite -> list of problems.
        send: gets {"done": problems answered}.

    Returns:
        {"suites": suite -> figures (see `SuiteScores`)}, or {"failure": one line, "ending": name}.
    """
    settings = VerlSettings.model_validate(arguments["settings"])
    problems = {
        suite: [Problem(**{**problem, "golds": tuple(problem["golds"])}) for problem in listed]
        for suite, listed in arguments["problems"].items()
    }
    here = Path.cwd()
    device, cpus = settings.hardware.device, int(arguments["cpus"])
    request = Request(
        tuple(_suite_request(settings, suite, listed) for suite, listed in problems.items()),
        _engine(settings, str(arguments["weights"])),
        int(arguments["seed"]),
    )
    request.write(here)
    # Unlike in the trainer's engine, sampling has the whole machine here.
    variables = environment(device, here, arguments["gpus"], threads=cpus)
    with (here / LOG).open("ab") as log:
        command = python("poise_git.pipeline.backends.verl.generation", str(here))
        generator = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while (exit_code := generator.poll()) is None:
                time.sleep(_POLL_SECONDS)
                send({"done": count_answered(here)})
        finally:
            generator.kill()
            generator.wait()
    if exit_code:
        ended = crash(exit_code, log_tail(here / LOG))
        return {"failure": str(ended), "ending": ended.ending.name}
    samples = list(_graded(settings, problems, list(read_responses(here)), cpus))
    send({"done": sum(map(len, problems.values()))})
    return {
        "suites": {
            suite: asdict(score_suite([sample for where, sample in samples if where == suite], described.k))
            for suite in problems
            for described in [settings.evaluation.suites[suite]]
        }
    }


def _suite_request(settings: VerlSettings, suite: str, problems: list[Problem]) -> SuiteRequest:
    described, evaluation = settings.evaluation.suites[suite], settings.evaluation
    return SuiteRequest(
        suite=suite,
        prompts=tuple(ask(settings.data.prompt, problem.question) for problem in problems),
        samples=described.samples,
        temperature=evaluation.temperature if described.temperature is None else described.temperature,
        top_p=evaluation.top_p,
        max_tokens=described.max_tokens or evaluation.max_tokens,
    )


def _engine(settings: VerlSettings, weights: str) -> dict[str, Any]:
    hardware = settings.hardware
    # Unlike in training, the engine has the whole device.
    memory = {"gpu_memory_utilization": _MEMORY_SHARE} if hardware.device == "cuda" else {}
    return memory | {
        "model": weights,
        "dtype": hardware.precision,
        "tensor_parallel_size": max(1, hardware.evaluation_gpus),
        "max_num_seqs": hardware.sampling_sequences,
        "enforce_eager": hardware.device == "cpu",
        "disable_log_stats": True,
    }


def _graded(
    settings: VerlSettings, problems: Mapping[str, list[Problem]], answered: list[Responses], cpus: int
) -> Iterator[tuple[str, GradedSample]]:
    asked: list[tuple[str, Problem, Question]] = []
    for responses in answered:
        problem = problems[responses.suite][responses.number]
        for text, finished in zip(responses.texts, responses.finished, strict=True):
            question = Question(problem.kind, problem.golds, text, finished, settings.data.answer_format)
            asked.append((responses.suite, problem, question))
    with Grader(cpus) as grader:
        verdicts = grader.grade_all([question for _, _, question in asked])
    for (suite, problem, question), verdict in zip(asked, verdicts, strict=True):
        yield (
            suite,
            GradedSample(
                problem=problem.identifier,
                valid=verdict.valid,
                correct=verdict.correct,
                finished=question.finished,
                timed_out=verdict.timed_out,
                words=len(question.response.split()),
            ),
        )
