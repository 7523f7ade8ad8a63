"""Write training problems without the suites' problems as verl's parquet file; the seed determines the file."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise_git.errors import UsageError
from poise_git.pipeline.backends.verl.settings import DataSettings
from poise_git.pipeline.backends.verl.suites import Problem

# As in GPT-3's check of contamination (arXiv:2005.14165, appendix C).
NGRAM_WORDS = 13
DATA_SOURCE = "poise"

_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Overlap:
    """Training problems shared with a suite: the same text except white space, or a common NGRAM_WORDS-gram."""

    exact: int
    ngram: int


@dataclass(frozen=True)
class TrainingDataReport:
    """The number of `available` problems, of `dropped` ones that overlap, of `rows` written; and overlaps by suite."""

    available: int
    dropped: int
    rows: int
    overlaps: dict[str, Overlap]


def write_training_data(
    data: DataSettings, problems: Sequence[Problem], suites: Mapping[str, Sequence[Problem]], file: Path
) -> TrainingDataReport:
    """Sample `data.rows` of `problems` with `data.seed`, without those that overlap with `suites`, into `file`.

    Generated problems that overlap are reported but kept: a range of sums has few problems, and a smoke test claims
    nothing about them.

    Raises:
        UsageError: fewer problems are left than `data.rows`, or pyarrow is missing.
    """
    overlaps, overlapping = find_overlaps(problems, suites)
    left = [p for i, p in enumerate(problems) if data.source.generator or i not in overlapping]
    chosen = left
    if data.rows is not None:
        if data.rows > len(left):
            raise UsageError(
                f"data.rows is {data.rows}, but the source has {len(left)} problems that are in no suite; "
                f"lower data.rows or give a larger source in the protocol"
            )
        chosen = random.Random(data.seed).sample(left, data.rows)
    _write(file, [_row(problem, number, data) for number, problem in enumerate(chosen)])
    return TrainingDataReport(len(problems), len(problems) - len(left), len(chosen), overlaps)


def find_overlaps(
    problems: Sequence[Problem], suites: Mapping[str, Sequence[Problem]]
) -> tuple[dict[str, Overlap], set[int]]:
    """The number of `problems` that each suite shares, and the positions of all shared ones."""
    texts = [_squeezed(problem.question) for problem in problems]
    ngrams = [_ngrams(problem.question) for problem in problems]
    overlaps, overlapping = {}, set[int]()
    for suite, held_out in suites.items():
        their_texts = {_squeezed(problem.question) for problem in held_out}
        their_ngrams = {ngram for problem in held_out for ngram in _ngrams(problem.question)}
        exact = {i for i, text in enumerate(texts) if text in their_texts}
        shared = {i for i, own in enumerate(ngrams) if not own.isdisjoint(their_ngrams)}
        overlaps[suite] = Overlap(len(exact), len(shared - exact))
        overlapping |= exact | shared
    return overlaps, overlapping


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _ngrams(text: str) -> set[str]:
    words = _WORD.findall(text.lower())
    return {" ".join(words[i : i + NGRAM_WORDS]) for i in range(len(words) - NGRAM_WORDS + 1)}


def ask(template: str, question: str) -> str:
    """The prompt for `question`; the model reads the same prompt in training and in evaluation."""
    return template.replace("{question}", question)


def _row(problem: Problem, number: int, data: DataSettings) -> dict[str, Any]:
    return {
        "data_source": DATA_SOURCE,
        "prompt": [{"role": "user", "content": ask(data.prompt, problem.question)}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": problem.golds[0]},
        "extra_info": {
            "index": number,
            "identifier": problem.identifier,
            "kind": problem.kind,
            "golds": list(problem.golds),
            "answer_format": data.answer_format,
        },
    }


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("training data needs pyarrow: pip install 'poise-git[verl]'") from error
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.part")
    parquet.write_table(pyarrow.Table.from_pylist(rows), unfinished)
    unfinished.replace(file)
