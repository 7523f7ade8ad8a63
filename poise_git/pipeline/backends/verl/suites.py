"""Load problems with golds from a protocol's source: a generator, a local file, or a pinned file of the hub."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poise_git.errors import UsageError
from poise_git.pipeline.backends.verl.answers import boxed_contents
from poise_git.pipeline.backends.verl.notation import normal_form, quantity
from poise_git.pipeline.backends.verl.sources import AnswerKind, FieldNames, HubFile, SuiteSource, SumsGenerator


@dataclass(frozen=True)
class Problem:
    """A question and the answers to it, any of which is right."""

    identifier: str
    question: str
    golds: tuple[str, ...]
    kind: AnswerKind


def load_problems(source: SuiteSource, base: Path) -> tuple[Problem, ...]:
    """Load all problems of `source` in order; a relative path is relative to `base`.

    Raises:
        UsageError: the file is unavailable or unreadable, and the message says how to get it; or a row lacks a column.
    """
    if source.generator:
        return _sums(source.generator, source.kind)
    if source.hub:
        place = f"{source.hub.repository}/{source.hub.file}"
        file = _download(source.hub)
    else:
        assert source.path is not None
        file = base / source.path
        place = str(file)
    rows = _read(file, place)
    problems = tuple(_problem(row, number, source, place) for number, row in enumerate(rows))
    if not problems:
        raise UsageError(f"{place}: has no problems; name another file in the protocol")
    return problems


def require_count(problems: tuple[Problem, ...], expected: int, suite: str) -> None:
    """Raises UsageError if a suite's size differs from its protocol's, because figures would not be comparable."""
    if len(problems) != expected:
        raise UsageError(
            f"suite {suite}: {len(problems)} problems, but the protocol states {expected}; check its source"
        )


def _sums(generator: SumsGenerator, kind: AnswerKind) -> tuple[Problem, ...]:
    """Draw sums with replacement, so that the number of problems may exceed the number of distinct sums."""
    rng = random.Random(generator.seed)
    pairs = [
        (rng.randint(generator.lowest, generator.highest), rng.randint(generator.lowest, generator.highest))
        for _ in range(generator.problems)
    ]
    return tuple(Problem(f"sum-{i}", f"{a}+{b}=", (str(a + b),), kind) for i, (a, b) in enumerate(pairs))


def _download(hub: HubFile) -> Path:
    """The pinned file in the hub's cache. A cached file is not fetched again, so that offline machines work."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise UsageError(
            f"{hub.repository}: needs huggingface_hub: pip install 'poise-git[verl]', or give `path:` in the protocol"
        ) from error
    try:
        return Path(hf_hub_download(hub.repository, hub.file, repo_type="dataset", revision=hub.revision))
    except Exception as error:  # the client passes on any exception of its transport
        command = f"hf download {hub.repository} {hub.file} --repo-type dataset --revision {hub.revision}"
        raise UsageError(
            f"{hub.repository}/{hub.file}: cannot be downloaded ({type(error).__name__}); "
            f"on a machine with a network: {command}; or give `path:` in the protocol"
        ) from error


def _read(file: Path, place: str) -> list[Mapping[str, Any]]:
    reader = _READERS.get(file.suffix)
    if reader is None:
        raise UsageError(f"{place}: must be {', '.join(_READERS)}")
    try:
        return list(reader(file))
    except FileNotFoundError as error:
        raise UsageError(
            f"{place}: no such file; put the problems there, one JSON object per line, or give `hub:` in the protocol"
        ) from error
    except ImportError as error:
        raise UsageError(f"{place}: parquet needs pyarrow: pip install 'poise-git[verl]'") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{place}: cannot be read: {' '.join(str(error).split())[:200]}") from error


def _read_jsonl(file: Path) -> Iterable[Mapping[str, Any]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is not JSON: {error.msg}") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is not a JSON object")
            yield row


def _read_parquet(file: Path) -> Iterable[Mapping[str, Any]]:
    from pyarrow import parquet

    rows: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    return rows


_READERS: Mapping[str, Callable[[Path], Iterable[Mapping[str, Any]]]] = {
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _problem(row: Mapping[str, Any], number: int, source: SuiteSource, place: str) -> Problem:
    fields: FieldNames = source.fields
    question = row.get(fields.question)
    if not isinstance(question, str):
        known = ", ".join(sorted(row))
        raise UsageError(
            f"{place}: row {number} has no text {fields.question!r}; set fields: {{question: one of {known}}}"
        )
    answers = _answers(row, fields)
    if not answers:
        known = ", ".join(sorted(row))
        raise UsageError(f"{place}: row {number} has no {fields.answer!r}; set fields: {{answer: one of {known}}}")
    if source.kind == "olympiad" and fields.answers and len(_listed(row.get(fields.answers))) > 1:
        golds: tuple[str, ...] = (", ".join(_listed(row[fields.answers])),)
    else:
        golds = (answers[0], *_true_alternates(answers, question))
    return Problem(str(row.get("id", number)), question, golds, source.kind)


def _answers(row: Mapping[str, Any], fields: FieldNames) -> list[str]:
    """The answer first, then each alternate once."""
    answer = row.get(fields.answer)
    first = [] if answer is None else [_gold(str(answer))]
    others = _listed(row.get(fields.answers)) if fields.answers else []
    return list(dict.fromkeys([*first, *map(_gold, others)]))


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]


def _gold(answer: str) -> str:
    """The answer at the end of a worked solution (MATH: the last box; GSM8K: the text after ####), or all of it."""
    if "####" in answer:
        return answer.rpartition("####")[2].strip().replace(",", "")
    boxes = boxed_contents(answer).contents
    return boxes[-1] if boxes else answer


def _true_alternates(answers: list[str], question: str) -> list[str]:
    """The alternates that are numbers exactly if the answer is one, and that are not boxed in the question.

    Questions of Minerva quote earlier sub-problems with their solutions, and published lists of alternates contain the
    answers to those. With such an alternate, a copy of an earlier solution would count as right.
    """
    quoted = [normal_form(box) for box in boxed_contents(question).contents]
    is_number = quantity(normal_form(answers[0])) is not None
    alternates = [(answer, normal_form(answer)) for answer in answers[1:]]
    return [
        answer
        for answer, normal in alternates
        if (quantity(normal) is not None) == is_number and not any(_alike(normal, box) for box in quoted)
    ]


def _alike(one: str, other: str) -> bool:
    """Whether two normal forms are the same number or have the same letters and digits in the same order."""
    first, second = quantity(one), quantity(other)
    if first and second:
        return first.equals(second, 0.0)
    return _letters_and_digits(one) == _letters_and_digits(other)


def _letters_and_digits(normal: str) -> str:
    return re.sub(r"\\(?:frac|text)|[^a-z0-9]", "", normal.casefold())
