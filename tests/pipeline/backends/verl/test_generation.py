"""The files between generation and its follower. Generation itself is tested in test_end_to_end."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from poise_git.pipeline.backends.verl.generation import (
    RESPONSES,
    Request,
    Responses,
    SuiteRequest,
    count_answered,
    read_responses,
)


def test_a_request_is_read_back(tmp_path: Path) -> None:
    suite = SuiteRequest("aime24", ("What is 1+1?", "Was ist ½?"), 32, 1.0, 0.95, 4096)
    request = Request((suite,), {"model": "/weights", "dtype": "bfloat16"}, 7)
    request.write(tmp_path)
    assert Request.read(tmp_path) == request


def test_progress_counts_responses_as_they_are_written(tmp_path: Path) -> None:
    assert count_answered(tmp_path) == 0
    assert list(read_responses(tmp_path)) == []
    first = Responses("sums", 0, ("3", "\\boxed{4}\nso"), (True, False))
    line = json.dumps(asdict(first)) + "\n"
    (tmp_path / RESPONSES).write_text(line + line[:20])
    assert count_answered(tmp_path) == 1
    assert list(read_responses(tmp_path)) == [first]
