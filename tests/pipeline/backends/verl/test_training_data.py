"""Training data: determined by the seed, free of suite problems, and in the format of verl."""

from __future__ import annotations

from pathlib import Path

import pytest

from poise_git.errors import UsageError
from poise_git.pipeline.backends.verl.settings import DataSettings
from poise_git.pipeline.backends.verl.sources import SuiteSource
from poise_git.pipeline.backends.verl.suites import Problem, load_problems
from poise_git.pipeline.backends.verl.training_data import NGRAM_WORDS, Overlap, find_overlaps, write_training_data

parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'poise-git[verl]'")

DATA = Path(__file__).parents[5] / "shared/data"
QWEN = "{question}\nPlease reason step by step, and put your final answer within \\boxed{}."
LONG = "A train of exactly ninety nine cars leaves the old station at noon and returns before dusk"


def problem(number: int, question: str) -> Problem:
    return Problem(f"p{number}", question, (str(number), f"{number}.0"), "math")


def settings(rows: int | None, seed: int = 0, **source: object) -> DataSettings:
    return DataSettings(
        source=SuiteSource.model_validate(source or {"path": "unused.jsonl"}),
        rows=rows,
        seed=seed,
        prompt=QWEN,
        max_prompt_tokens=64,
    )


PROBLEMS = [problem(i, f"What is {i} + {{1}}?") for i in range(50)]


def test_rows_have_the_format_of_verl(tmp_path: Path) -> None:
    report = write_training_data(settings(rows=None), PROBLEMS, {}, tmp_path / "train.parquet")
    rows = parquet.read_table(tmp_path / "train.parquet").to_pylist()
    assert (report.available, report.dropped, report.rows, len(rows)) == (50, 0, 50, 50)
    assert rows[7] == {
        "data_source": "poise",
        "prompt": [{"role": "user", "content": QWEN.replace("{question}", "What is 7 + {1}?")}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "7"},
        "extra_info": {
            "index": 7,
            "identifier": "p7",
            "kind": "math",
            "golds": ["7", "7.0"],
            "answer_format": "boxed",
        },
    }


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_training_data(settings(rows=20, seed=seed), PROBLEMS, {}, tmp_path / name)
    contents = [(tmp_path / name).read_bytes() for name in "abc"]
    assert contents[0] == contents[1] != contents[2]
    assert len(parquet.read_table(tmp_path / "a")) == 20


def test_overlap_with_a_suite_is_found_by_text_and_by_long_phrases() -> None:
    problems = [problem(0, "What is 1 + 1?"), problem(1, "What is 1 + 2?"), problem(2, f"{LONG}. How fast is it?")]
    suite = [problem(9, "What is  1 +\n1?"), problem(9, f"Yesterday {LONG.lower()}! How long was it?")]
    overlaps, positions = find_overlaps(problems, {"suite": suite, "other": []})
    assert overlaps == {"suite": Overlap(exact=1, ngram=1), "other": Overlap(exact=0, ngram=0)}
    assert positions == {0, 2}


def test_a_phrase_that_is_one_word_too_short_is_no_overlap() -> None:
    words = " ".join(LONG.split()[:NGRAM_WORDS])
    shorter = " ".join(LONG.split()[: NGRAM_WORDS - 1])
    assert find_overlaps([problem(0, f"a {words} b")], {"s": [problem(1, f"c {words} d")]})[1] == {0}
    assert find_overlaps([problem(0, f"a {shorter} b")], {"s": [problem(1, f"c {shorter} d")]})[1] == set()


def test_overlapping_problems_are_dropped_and_counted(tmp_path: Path) -> None:
    report = write_training_data(settings(rows=None), PROBLEMS, {"suite": PROBLEMS[:5]}, tmp_path / "a")
    assert (report.dropped, report.rows, report.overlaps) == (5, 45, {"suite": Overlap(exact=5, ngram=0)})
    with pytest.raises(UsageError, match=r"data\.rows is 46, but the source has 45"):
        write_training_data(settings(rows=46), PROBLEMS, {"suite": PROBLEMS[:5]}, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_generated_problems_are_kept_and_counted(tmp_path: Path) -> None:
    generator = {"name": "sums", "problems": 60, "lowest": 0, "highest": 2, "seed": 0}
    data = settings(rows=60, generator=generator)
    problems = load_problems(data.source, tmp_path)
    report = write_training_data(data, problems, {"sums": problems[:30]}, tmp_path / "a")
    assert report.rows == 60
    assert report.dropped == 0
    assert report.overlaps["sums"].exact >= 30


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")
def test_math_has_no_problem_of_a_suite(tmp_path: Path) -> None:
    kinds = {
        "aime24": "integer",
        "aime25": "integer",
        "amc83": "integer",
        "math500": "math",
        "minerva": "minerva",
        "olympiadbench": "olympiad",
    }
    suites = {
        name: load_problems(SuiteSource.model_validate({"path": f"{name}.jsonl", "kind": kind}), DATA)
        for name, kind in kinds.items()
    }
    data = settings(rows=5000, path="math_train_l3to5.jsonl")
    report = write_training_data(data, load_problems(data.source, DATA), suites, tmp_path / "train.parquet")
    assert report.available == 5584
    assert report.rows == 5000
    assert all(overlap.exact == 0 for overlap in report.overlaps.values())
