from __future__ import annotations

import pytest

from poise_git.pipeline.backends.verl.scores import GradedSample, score_suite


def sample(
    problem: str, *, correct: bool = False, valid: bool = True, finished: bool = True, words: int = 10
) -> GradedSample:
    return GradedSample(problem, valid, correct, finished, timed_out=False, words=words)


SAMPLES = [
    *(sample("a", correct=i < 2) for i in range(4)),
    *(sample("b", valid=False, finished=False, words=50) for _ in range(4)),
    *(sample("c", correct=True) for _ in range(4)),
]


def test_accuracy_is_the_mean_over_problems() -> None:
    scores = score_suite(SAMPLES, k=1)
    assert scores.value == pytest.approx((0.5 + 0.0 + 1.0) / 3)
    # The sample standard deviation of (.5, 0, 1) is .5.
    assert scores.standard_error == pytest.approx(0.5 / 3**0.5)
    assert scores.valid_rate == pytest.approx(8 / 12)
    assert scores.cut_off_rate == pytest.approx(4 / 12)
    assert scores.mean_words == pytest.approx((8 * 10 + 4 * 50) / 12)
    assert scores.correct == {"a": 2, "b": 0, "c": 4}
    assert (scores.samples, scores.timed_out) == (4, 0)


def test_pass_at_k_is_unbiased() -> None:
    """Of 4 samples with 2 right, 5 of the 6 pairs hold a right one; with replacement it would be 3 of 4."""
    assert score_suite(SAMPLES, k=2).value == pytest.approx((5 / 6 + 0.0 + 1.0) / 3)
    assert score_suite(SAMPLES, k=4).value == pytest.approx(2 / 3)


def test_graded_samples_that_give_no_figure_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many"):
        score_suite([*SAMPLES, sample("a")], k=1)
    with pytest.raises(ValueError, match="pass@8"):
        score_suite(SAMPLES, k=8)
    with pytest.raises(ValueError, match="equally many"):
        score_suite([], k=1)


def test_a_single_problem_has_no_standard_error() -> None:
    assert score_suite([sample("a", correct=True)], k=1).standard_error == 0.0
