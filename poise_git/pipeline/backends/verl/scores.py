"""Compute a suite's figures from graded samples. Counts per problem are kept, so that runs can be paired by problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from poise_git.pipeline.pass_at_k import pass_at_k


@dataclass(frozen=True)
class GradedSample:
    """One response to one problem. White space separates `words`; `finished`: the model stopped by itself."""

    problem: str
    valid: bool
    correct: bool
    finished: bool
    timed_out: bool
    words: int


@dataclass(frozen=True)
class SuiteScores:
    """The figures of one suite.

    Attributes:
        value: mean over problems of pass@k, unbiased (arXiv:2107.03374, eq. 1); k = 1 is accuracy.
        standard_error: of `value`, with the problems as a random sample of many; 0 with one problem.
        valid_rate, cut_off_rate: shares of samples.
        mean_words: mean length of a response in words.
        timed_out: samples whose grading hit a limit; they count as wrong.
        samples: responses per problem.
        correct: problem -> correct responses, in the order of the problems.
    """

    value: float
    standard_error: float
    valid_rate: float
    mean_words: float
    cut_off_rate: float
    timed_out: int
    samples: int
    correct: dict[str, int]


def score_suite(samples: Sequence[GradedSample], k: int) -> SuiteScores:
    """Figures of the samples of one suite.

    Raises:
        ValueError: there are no samples, the problems have unequal numbers of them, or fewer than k.
    """
    counts: dict[str, int] = {}
    correct: dict[str, int] = {}
    for sample in samples:
        counts[sample.problem] = counts.get(sample.problem, 0) + 1
        correct[sample.problem] = correct.get(sample.problem, 0) + sample.correct
    numbers = set(counts.values())
    if len(numbers) != 1:
        raise ValueError(f"problems must have equally many samples, not {sorted(numbers)}")
    n = numbers.pop()
    if n < k:
        raise ValueError(f"pass@{k} needs at least {k} samples of a problem, not {n}")
    values = [pass_at_k(n, c, k) for c in correct.values()]
    return SuiteScores(
        value=fmean(values),
        standard_error=stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0,
        valid_rate=fmean(sample.valid for sample in samples),
        mean_words=fmean(sample.words for sample in samples),
        cut_off_rate=fmean(not sample.finished for sample in samples),
        timed_out=sum(sample.timed_out for sample in samples),
        samples=n,
        correct=correct,
    )
