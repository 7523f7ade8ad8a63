"""Generate responses to held-out problems with vLLM's offline engine. `evaluation` starts this program:

    python -m poise_git.pipeline.backends.verl.generation FOLDER

It reads FOLDER/request.json and appends to FOLDER/responses.jsonl, one line per problem.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REQUEST, RESPONSES = "request.json", "responses.jsonl"
# Problems that the engine gets at once. Progress is reported after each lot.
_LOT = 64


@dataclass(frozen=True)
class SuiteRequest:
    """A suite's prompts and sampling parameters. `temperature` 0 is greedy."""

    suite: str
    prompts: tuple[str, ...]
    samples: int
    temperature: float
    top_p: float
    max_tokens: int


@dataclass(frozen=True)
class Request:
    """One shard. `engine` holds keyword arguments of `vllm.LLM`. The seeds of problems follow from `seed`."""

    suites: tuple[SuiteRequest, ...]
    engine: Mapping[str, Any]
    seed: int

    def write(self, folder: Path) -> None:
        (folder / REQUEST).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Request:
        data = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
        suites = tuple(SuiteRequest(**{**suite, "prompts": tuple(suite["prompts"])}) for suite in data["suites"])
        return cls(suites, data["engine"], data["seed"])


@dataclass(frozen=True)
class Responses:
    """The responses to problem `number` of a suite; `finished`: the model stopped by itself."""

    suite: str
    number: int
    texts: tuple[str, ...]
    finished: tuple[bool, ...]


def read_responses(folder: Path) -> Iterator[Responses]:
    """Read the responses written so far, without an incomplete last line."""
    file = folder / RESPONSES
    if not file.exists():
        return
    for line in file.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            data = json.loads(line)
            yield Responses(data["suite"], data["number"], tuple(data["texts"]), tuple(data["finished"]))


def count_answered(folder: Path) -> int:
    """Count the answered problems without parsing the answers, which may be many megabytes."""
    file = folder / RESPONSES
    return file.read_bytes().count(b"\n") if file.exists() else 0


def generate(folder: Path) -> None:
    """Answer `Request.read(folder)`."""
    from vllm import LLM, SamplingParams

    request = Request.read(folder)
    engine = LLM(**request.engine, seed=request.seed)
    with (folder / RESPONSES).open("a", encoding="utf-8") as file:
        for suite in request.suites:
            for first in range(0, len(suite.prompts), _LOT):
                prompts = suite.prompts[first : first + _LOT]
                sampling = [
                    SamplingParams(
                        n=suite.samples,
                        temperature=suite.temperature,
                        top_p=suite.top_p,
                        max_tokens=suite.max_tokens,
                        # A problem's samples do not depend on the other problems of the request.
                        seed=_seed(request.seed, suite.suite, first + place),
                    )
                    for place in range(len(prompts))
                ]
                chats: Sequence[Any] = [[{"role": "user", "content": prompt}] for prompt in prompts]
                for place, output in enumerate(engine.chat(chats, sampling, use_tqdm=False)):
                    responses = Responses(
                        suite.suite,
                        first + place,
                        tuple(sample.text for sample in output.outputs),
                        tuple(sample.finish_reason == "stop" for sample in output.outputs),
                    )
                    file.write(json.dumps(asdict(responses)) + "\n")
                file.flush()


def _seed(seed: int, suite: str, problem: int) -> int:
    return zlib.crc32(f"{seed}/{suite}/{problem}".encode()) >> 1


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
