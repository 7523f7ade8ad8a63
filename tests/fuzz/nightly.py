"""Run readers on millions of mutated texts: python -m tests.fuzz.nightly --corpus FOLDER --minutes 30

Counts go to FOLDER/counts.json every few seconds, and the next call adds to them. A text that makes a reader fail is
kept in FOLDER/findings/TARGET/. Some accepted texts are kept in FOLDER/TARGET/, as seeds of the next call. With
`--atheris` (pip install 'poise-git[fuzz]') coverage guides the choice of texts, for one target per call.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tests.fuzz.mutations import LONGEST, mutated

if "--atheris" in sys.argv:
    # It traces the lines of modules that are imported under its instrumentation.
    import atheris

    with atheris.instrument_imports(include=["poise_git"]):
        from tests.fuzz.targets import TARGETS, Target
else:
    from tests.fuzz.targets import TARGETS, Target

# Limits: seconds of processor time for one text, and the memory of the whole process.
SECONDS = 5.0
MEMORY = 4 * 2**30
SAVE_EVERY = 5.0
BATCH = 200
KEPT = 400


class TooSlow(BaseException):
    """Not an Exception, so that no reader catches it as one of its own errors."""


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"more than {SECONDS:g} seconds")

    signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


class Counts:
    """Counts of the executed cases, in a file that the next call continues."""

    def __init__(self, folder: Path) -> None:
        self.file, self.folder = folder / "counts.json", folder
        known = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.executions = Counter[str](known.get("executions", {}))
        self.accepted = Counter[str](known.get("accepted", {}))
        self.findings = Counter[str](known.get("findings", {}))
        self.seconds = float(known.get("seconds", 0.0))
        self.saved = time.monotonic()

    @property
    def total(self) -> int:
        return self.executions.total()

    def save(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now < self.saved + SAVE_EVERY:
            return
        self.seconds, self.saved = self.seconds + now - self.saved, now
        fields = {"total": self.total, "seconds": round(self.seconds, 1)}
        tables = {name: dict(getattr(self, name)) for name in ("executions", "accepted", "findings")}
        beside = self.file.with_suffix(".new")
        beside.write_text(json.dumps({**fields, **tables}, indent=1) + "\n")
        os.replace(beside, self.file)

    def found(self, name: str, data: bytes, said: str) -> None:
        """Keep a text that made a reader fail, once for each place of failure."""
        place = self.folder / "findings" / name / hashlib.sha256(said.encode()).hexdigest()[:12]
        self.findings[name] += 1
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            place.with_suffix(".txt").write_text(said, errors="backslashreplace")
            print(f"{name}: {said.strip().splitlines()[-1][:200]}  ({place})", flush=True)


def attempt(counts: Counts, name: str, target: Target, data: bytes) -> bool:
    """Whether the reader accepted the text; an error that it must not raise counts as a finding."""
    counts.executions[name] += 1
    try:
        with time_limit():
            accepted = target.run(data)
    except (Exception, TooSlow) as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = "".join(f"{Path(frame.filename).name}:{frame.lineno} " for frame in frames[-6:])
        counts.found(name, data, f"{where}\n{type(error).__name__}: {str(error)[:300]}")
        return False
    counts.accepted[name] += accepted
    return accepted


def corpus_of(folder: Path, name: str, target: Target) -> list[bytes]:
    kept = sorted((folder / name).glob("*")) if (folder / name).is_dir() else []
    return [*(seed.encode()[:LONGEST] for seed in target.seeds()), *(file.read_bytes() for file in kept)]


def mutate(folder: Path, names: list[str], seconds: float, executions: int, generator: random.Random) -> Counts:
    """Take the targets in turn until time or executions are used up."""
    counts, end = Counts(folder), time.monotonic() + seconds
    corpora = {name: corpus_of(folder, name, TARGETS[name]) for name in names}
    fresh = dict.fromkeys(names, 0)
    while time.monotonic() < end and counts.total < executions:
        for name in names:
            corpus, target = corpora[name], TARGETS[name]
            for _ in range(BATCH):
                data = mutated(generator.choice(corpus), corpus, generator)
                # Accepted texts differ more from the seeds each time; a few of them are kept.
                if attempt(counts, name, target, data) and generator.random() < 0.01 and fresh[name] < KEPT:
                    fresh[name] += 1
                    corpus.append(data)
                    place = folder / name / hashlib.sha256(data).hexdigest()[:16]
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(data)
            counts.save()
            if time.monotonic() > end:
                break
    counts.save(at_once=True)
    return counts


def guide(folder: Path, name: str, seconds: float, executions: int) -> None:
    """Let atheris choose the texts by their coverage. Does not return: libFuzzer ends the process."""
    counts, target = Counts(folder), TARGETS[name]
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(corpus_of(folder, name, target)):
        (place / f"seed-{number:04d}").write_bytes(data)

    def one(data: bytes) -> None:
        attempt(counts, name, target, data)
        counts.save()

    options = [f"-max_total_time={int(seconds)}", f"-runs={executions}", f"-max_len={LONGEST}", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(place)], one)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the readers of strangers' texts.")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of texts, findings and counts")
    parser.add_argument("--minutes", type=float, default=30.0, help="time in minutes (default: 30)")
    parser.add_argument("--executions", type=int, default=10_000_000, help="all calls together (default: 10 million)")
    parser.add_argument("--targets", nargs="*", choices=sorted(TARGETS), default=sorted(TARGETS), help="default: all")
    parser.add_argument("--seed", type=int, default=None, help="of the mutations (default: another one each time)")
    parser.add_argument("--atheris", action="store_true", help="choose texts by coverage; takes one target")
    asked = parser.parse_args()
    asked.corpus.mkdir(parents=True, exist_ok=True)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if asked.atheris:
        if len(asked.targets) != 1:
            parser.error("--atheris takes one target: --targets NAME")
        guide(asked.corpus, asked.targets[0], 60 * asked.minutes, asked.executions)
    counts = mutate(asked.corpus, asked.targets, 60 * asked.minutes, asked.executions, random.Random(asked.seed))
    print(f"{counts.total} executions, {counts.findings.total()} findings; counts: {counts.file}")
    return 1 if counts.findings else 0


if __name__ == "__main__":
    sys.exit(main())
