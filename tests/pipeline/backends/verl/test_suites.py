"""Suites from generators, files and the hub, and the errors for unavailable files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from poise_git.errors import UsageError
from poise_git.pipeline.backends.verl.grading import quick_grade
from poise_git.pipeline.backends.verl.sources import FieldNames, HubFile, SuiteSource, SumsGenerator
from poise_git.pipeline.backends.verl.suites import load_problems, require_count

DATA = Path(__file__).parents[5] / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")


def write(file: Path, *rows: dict[str, object]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def sums(seed: int, problems: int = 50) -> SuiteSource:
    return SuiteSource(
        generator=SumsGenerator(name="sums", problems=problems, lowest=0, highest=9, seed=seed), kind="integer"
    )


def test_sums_are_right_and_depend_only_on_the_seed(tmp_path: Path) -> None:
    problems = load_problems(sums(3), tmp_path)
    assert len(problems) == 50
    assert len({problem.identifier for problem in problems}) == 50
    for problem in problems:
        a, b = map(int, problem.question.rstrip("=").split("+"))
        assert problem.golds == (str(a + b),)
        assert 0 <= min(a, b) <= max(a, b) <= 9
    assert load_problems(sums(3), tmp_path) == problems
    assert load_problems(sums(4), tmp_path) != problems


@needs_data
@pytest.mark.parametrize(
    ("file", "source", "count"),
    [
        ("aime24.jsonl", {"kind": "integer"}, 30),
        ("aime25.jsonl", {"kind": "integer"}, 30),
        ("amc83.jsonl", {"kind": "integer"}, 83),
        ("math500.jsonl", {"kind": "math"}, 500),
        ("minerva.jsonl", {"kind": "minerva", "fields": {"answers": "answers"}}, 272),
        ("olympiadbench.jsonl", {"kind": "olympiad", "fields": {"answers": "answers"}}, 675),
    ],
)
def test_the_six_suites_load_and_their_reference_answers_are_right(
    file: str, source: dict[str, object], count: int
) -> None:
    problems = load_problems(SuiteSource.model_validate({"path": file, **source}), DATA)
    require_count(problems, count, file)
    with pytest.raises(UsageError, match=f"{count} problems"):
        require_count(problems, count + 1, file)
    assert len({problem.identifier for problem in problems}) == count
    for problem in problems:
        for gold in problem.golds:
            assert quick_grade(problem.kind, problem.golds, gold) is True


@needs_data
def test_answers_of_quoted_subproblems_are_no_minerva_alternatives() -> None:
    """Row 57 asks for a doubling time, .53 years, and quotes a number of ferrets, 4.4e7, which is among its answers."""
    source = SuiteSource(path="minerva.jsonl", kind="minerva", fields=FieldNames(answers="answers"))
    problems = {problem.identifier: problem for problem in load_problems(source, DATA)}
    assert problems["minerva-57"].golds == ("0.53",)
    assert quick_grade("minerva", problems["minerva-57"].golds, r"4.4 \times 10^7") is False
    # The same expression, written differently from the quotation.
    assert problems["minerva-68"].golds == ("0",)
    assert problems["minerva-10"].golds == ("3.83e35", r"3.83 \times 10^{35}")


def test_columns_with_other_names_and_worked_solutions_are_read(tmp_path: Path) -> None:
    write(
        tmp_path / "solved.jsonl",
        {"q": "1/2?", "solution": r"First \boxed{1}, then \boxed{\frac{1}{2}}."},
        {"q": "Ducks?", "solution": "9 * 2 = 18\n#### 1,018"},
    )
    source = SuiteSource(path="solved.jsonl", fields=FieldNames(question="q", answer="solution"))
    problems = load_problems(source, tmp_path)
    assert [problem.golds for problem in problems] == [(r"\frac{1}{2}",), ("1018",)]
    assert [problem.identifier for problem in problems] == ["0", "1"]


def test_several_answers_of_an_olympiad_problem_are_one_list(tmp_path: Path) -> None:
    write(
        tmp_path / "o.jsonl",
        {"question": "all x?", "final_answer": ["$1$", "$3$"]},
        {"question": "x?", "final_answer": ["2"]},
    )
    fields = FieldNames(question="question", answer="none", answers="final_answer")
    problems = load_problems(SuiteSource(path="o.jsonl", kind="olympiad", fields=fields), tmp_path)
    assert [problem.golds for problem in problems] == [("$1$, $3$",), ("2",)]


def test_parquet_gives_the_same_problems(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pip install 'poise-git[verl]'")
    from pyarrow import parquet

    rows = [
        {"problem": "1+1?", "answer": "2", "answers": ["2", "2.0", "two"]},
        {"problem": "x?", "answer": "x", "answers": []},
    ]
    write(tmp_path / "a.jsonl", *rows)
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    fields = FieldNames(answers="answers")
    found = [load_problems(SuiteSource(path=f"a.{kind}", fields=fields), tmp_path) for kind in ("jsonl", "parquet")]
    assert found[0] == found[1]
    assert found[0][0].golds == ("2", "2.0")


def one_line(source: SuiteSource, base: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_problems(source, base)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_missing_or_broken_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    assert "no such file" in one_line(SuiteSource(path="none.jsonl"), tmp_path)
    assert "hub:" in one_line(SuiteSource(path="none.jsonl"), tmp_path)
    assert "must be .jsonl, .parquet" in one_line(SuiteSource(path="a.csv"), tmp_path)
    (tmp_path / "broken.jsonl").write_text('{"problem": "1?", "answer": "1"}\n{"problem\n')
    assert "line 2" in one_line(SuiteSource(path="broken.jsonl"), tmp_path)
    (tmp_path / "list.jsonl").write_text("[1]\n")
    assert "line 1" in one_line(SuiteSource(path="list.jsonl"), tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    assert "no problems" in one_line(SuiteSource(path="empty.jsonl"), tmp_path)
    write(tmp_path / "other.jsonl", {"question": "1?", "answer": "1"})
    assert "{question: one of answer, question}" in one_line(SuiteSource(path="other.jsonl"), tmp_path)
    write(tmp_path / "unanswered.jsonl", {"problem": "1?"})
    assert "'answer'" in one_line(SuiteSource(path="unanswered.jsonl"), tmp_path)


def test_a_truncated_parquet_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pip install 'poise-git[verl]'")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    assert "cannot be read" in one_line(SuiteSource(path="a.parquet"), tmp_path)


def test_an_offline_hub_reports_how_to_get_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants", reason="pip install 'poise-git[verl]'")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    revision = "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be"
    text = one_line(SuiteSource(hub=HubFile(repository="nobody/none", revision=revision, file="t.jsonl")), tmp_path)
    assert f"hf download nobody/none t.jsonl --repo-type dataset --revision {revision}" in text
