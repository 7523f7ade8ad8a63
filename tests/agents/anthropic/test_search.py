"""Complete searches, as a person runs them, against the loopback server.

Tests of candidates and keys use real checks and real training. Tests of calls, replies and costs use made-up figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Status
from poise_git.archive.spending import spent
from poise_git.experiment import Experiment
from tests import sentences
from tests.agents.anthropic.models import SCALE, Useful, Useless, operator, overloaded, told
from tests.agents.anthropic.server import Body, Loopback, Scripted, serving, tool_use
from tests.conftest import edit_settings, git
from tests.fake_backend import PROGRAM

pytestmark = pytest.mark.slow

KEY = "sk-canary-8c1f0e4b7a"
SETTINGS = "  proposals: 4\n"


class Searched:
    """The result of one call of the command."""

    def __init__(
        self,
        archive: Archive,
        server: Loopback,
        *options: str,
        replies: Path,
        watched: bool = False,
        program: str = "poise_git",
    ) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")},
            **({"ANTHROPIC_API_KEY": KEY} if server.url else {}),
            **({"ANTHROPIC_BASE_URL": server.url} if server.url else {}),
            "XDG_CACHE_HOME": str(replies),
            "POISE_RECORDINGS": str(archive.root / "recordings"),
        }
        command = [sys.executable, "-m", program, "evolve", str(archive.root), "--agent", "anthropic", *options]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.environments: list[bytes] = []
        watcher = threading.Thread(target=self._watch, args=(process,))
        if watched:
            watcher.start()
        self.output, self.errors = process.communicate(timeout=500)
        self.code = process.returncode
        if watched:
            watcher.join()

    def _watch(self, process: subprocess.Popen[str]) -> None:
        """Read the environment of every descendant process, as often as possible."""
        own = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        while process.poll() is None:
            for pid in descendants(process.pid):
                try:
                    words = Path(f"/proc/{pid}/cmdline").read_bytes()
                    # A process between fork and exec shows the environment of its parent.
                    if words != own:
                        self.environments.append(Path(f"/proc/{pid}/environ").read_bytes())
                except OSError:
                    continue


def descendants(pid: int) -> Iterator[int]:
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return
    for child in children:
        yield child
        yield from descendants(child)


@pytest.fixture
def archive(tiny_archive: Archive) -> Archive:
    return for_a_model(tiny_archive)


@pytest.fixture
def made_up(fake_archive: Archive) -> Archive:
    """For searches by `tests.fake_backend`."""
    return for_a_model(fake_archive)


def for_a_model(archive: Archive) -> Archive:
    edit_settings(archive.root, "model: claude-sonnet-5-5", "model: m")
    edit_settings(archive.root, SETTINGS, "  proposals: 2\n")
    edit_settings(archive.root, "  parents: 3\n", "  parents: 2\n")
    edit_settings(archive.root, "  distill_every: 2\n", "  distill_every: 1\n")
    price = "    m: {input: 2.0, output: 10.0, cache_write: 2.5, cache_read: 0.1}\n"
    edit_settings(archive.root, "  prices:\n", f"  prices:\n{price}")
    return archive


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache for one test; only the base policies are shared by all tests."""
    own = tmp_path / "cache"
    shared = Path(os.environ["XDG_CACHE_HOME"]) / "poise-git"
    (own / "poise-git").mkdir(parents=True)
    (shared / "base-policies").mkdir(parents=True, exist_ok=True)
    (own / "poise-git" / "base-policies").symlink_to(shared / "base-policies")
    return own


def evaluated(archive: Archive) -> list[str]:
    return sorted(Experiment.load(archive).evaluated().keys() - {ROOT})


def everything(folder: Path) -> str:
    """The content of all git objects, loose and packed, and of the other files."""
    objects = subprocess.run(
        ["git", "-C", str(folder), "cat-file", "--batch-all-objects", "--batch"], capture_output=True, check=True
    ).stdout
    files = (file.read_bytes() for file in folder.rglob("*") if file.is_file())
    return b"\n".join((objects, *files)).decode(errors="replace")


def test_a_useful_model_completes_a_search(archive: Archive, cache: Path) -> None:
    with serving(Useful()) as server:
        done = Searched(archive, server, "--candidates", "4", replies=cache, watched=True)
    assert done.code == 0, done.errors
    names = evaluated(archive)
    assert len(names) == 4
    assert all(name.startswith("floor-") for name in names)

    for name in names:
        metrics = archive.metrics_file(name)
        assert metrics is not None
        operators = [call.operator for call in metrics.calls]
        assert operators == ["propose", "implement", "verify", "reflect"], name
        assert all(call.subject == name and call.usd and call.prompt for call in metrics.calls)
        assert metrics.usd == pytest.approx(sum(call.usd or 0.0 for call in metrics.calls))
        reflection = archive.reflection(name)
        assert reflection is not None
        assert "hardly ever acts" in reflection.prose
        assert reflection.facts.next == ("Try a larger one.",)
        assert "Poise-Agent: anthropic" in git(archive.root, "log", "-1", "--format=%B", f"poise/{name}")
    beside = [call for data in archive.rounds() for call in data["calls"] if call["operator"] == "screen"]
    assert beside, "calls that belong to no candidate are in the journal"
    principles = archive.principles()["principles"]
    assert principles[0]["statement"].startswith("Floors")
    assert any("Floors below the deviation" in json.dumps(request) for request in server.requests)

    # Keys: only the service gets it.
    assert all(KEY in json.dumps(headers) for headers in server.headers)
    assert len(done.environments) > 10
    assert not any(KEY.encode() in environment for environment in done.environments)
    assert KEY not in everything(archive.root)
    assert KEY not in done.output + done.errors
    assert not any(KEY.encode() in file.read_bytes() for file in cache.rglob("*.json"))


def test_a_useless_model_loses_no_work(archive: Archive, cache: Path) -> None:
    with serving(Useless()) as server:
        done = Searched(archive, server, "--rounds", "2", replies=cache)
    assert done.code == 0, done.errors
    assert "Traceback" not in done.errors
    protocol = Experiment.load(archive).protocol.hash
    genealogy = archive.genealogy()
    failed = [node.name for node in genealogy if node.status_under(protocol) is Status.FAILED]
    assert failed, "written candidates that did not pass are archived as failed"
    assert evaluated(archive) == []
    metrics = archive.metrics_file(failed[0])
    assert metrics is not None
    assert metrics.reason
    assert [call.operator for call in metrics.calls if call.operator == "repair"]
    calls = [call for data in archive.rounds() for call in data.get("calls") or ()]
    outcomes = {call["outcome"].split(":")[0] for call in calls}
    assert {"refusal", "max_tokens", "ok"} <= outcomes
    git(archive.root, "fsck", "--strict")


def test_an_overloaded_service_ends_the_search_which_then_resumes(made_up: Archive, cache: Path) -> None:
    model = Useful()

    def fails_after_a_while(request: Body) -> Scripted:
        return overloaded(request) if operator(request) == "verify" else model(request)

    edit_settings(made_up.root, "  retries: 4", "  retries: 1")
    with serving(fails_after_a_while) as server:
        done = Searched(made_up, server, "--candidates", "2", replies=cache, program=PROGRAM)
        assert done.code == 1
        assert "overloaded_error" in done.errors
        assert len(done.errors.strip().splitlines()[-1]) < 400
        proposed = sum(operator(request) == "propose" for request in server.requests)
    with serving(model) as server:
        done = Searched(made_up, server, "--candidates", "2", replies=cache, program=PROGRAM)
        assert done.code == 0, done.errors
        again = [operator(request) for request in server.requests]
    assert proposed == 4
    assert again.count("propose") == 0, "paid replies are used"
    assert again.count("write") == 0
    assert len(evaluated(made_up)) == 2
    metrics = made_up.metrics_file(evaluated(made_up)[0])
    assert metrics is not None
    assert [call.operator for call in metrics.calls] == ["propose", "implement", "verify", "reflect"]


def test_a_negative_code_review_leads_to_a_repair(made_up: Archive, cache: Path) -> None:
    model, read = Useful(), 0

    def strict(request: Body) -> Scripted:
        nonlocal read
        if operator(request) == "verify":
            read += 1
            if read == 1:
                return tool_use({"implements": False, "reason": "The floor of 0.01 is not applied.", "unproven": []})
        if operator(request) == "write" and sentences.REVIEW_REPAIR in told(request):
            assert "The floor of 0.01 is not applied." in told(request)
            return tool_use({"functions": [SCALE.format(floor=0.015)], "patch": [], "explanation": ""})
        return model(request)

    with serving(strict) as server:
        done = Searched(made_up, server, "--candidates", "1", replies=cache, program=PROGRAM)
    assert done.code == 0, done.errors
    (name,) = evaluated(made_up)
    metrics = made_up.metrics_file(name)
    assert metrics is not None
    operators = [call.operator for call in metrics.calls]
    assert operators == ["propose", "implement", "verify", "repair", "verify", "reflect"]
    assert "floor: float = 0.015" in made_up.recipe(name)["algorithm.py"]


def test_the_search_ends_before_it_exceeds_the_budget(made_up: Archive, cache: Path) -> None:
    edit_settings(made_up.root, "  max_tokens: 16000", "  max_tokens: 4000")
    edit_settings(made_up.root, "  context_tokens: 24000", "  context_tokens: 8000")
    with serving(Useful()) as server:
        done = Searched(made_up, server, "--candidates", "9", "--budget-usd", "0.2", replies=cache, program=PROGRAM)
        calls = len(server.requests)
        assert done.code == 3, done.errors
        assert "--budget-usd" in done.errors
        assert calls > 0
        again = Searched(made_up, server, "--candidates", "9", "--budget-usd", "0.2", replies=cache, program=PROGRAM)
        assert again.code == 3
    # Concurrent calls release unused reservations, which may pay for a few cheaper calls within the budget.
    assert calls <= len(server.requests) < 1.5 * calls
    assert 0 < spent(made_up) <= 0.2


def test_a_recorded_search_replays_exactly_without_key_or_network(
    made_up: Archive, archive_templates: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    edit_settings(made_up.root, "  replay: null", "  replay: {folder: recordings, mode: record}")
    copy = tmp_path / "again"
    subprocess.run(["cp", "-r", str(made_up.root), str(copy)], check=True)
    with serving(Useful()) as server:
        done = Searched(made_up, server, "--candidates", "3", replies=cache, program=PROGRAM)
    assert done.code == 0, done.errors
    subprocess.run(["cp", "-r", str(made_up.root / "recordings"), str(copy / "recordings")], check=True)
    edit_settings(copy, "mode: record", "mode: replay")
    nobody = Loopback("", lambda _: tool_use({}))
    replayed = Searched(Archive.open(copy), nobody, "--candidates", "3", replies=cache, program=PROGRAM)
    assert replayed.code == 0, replayed.errors
    assert found(Archive.open(copy)) == found(made_up)


def found(archive: Archive) -> dict[str, object]:
    """Every candidate with its code, figures and calls, without the marks of a replay."""
    table: dict[str, object] = {}
    for node in archive.genealogy():
        metrics = archive.metrics_file(node.name)
        assert metrics is not None
        calls = [
            {name: value for name, value in call.to_data().items() if name != "replayed"} for call in metrics.calls
        ]
        table[node.name] = (node.parents, archive.recipe(node.name), metrics.values, calls)
    return table


def test_an_archive_can_replace_prompts(made_up: Archive, cache: Path) -> None:
    own = made_up.root / "prompts" / "propose.md.j2"
    own.parent.mkdir()
    own.write_text("Floors, please, for {{ parent }}.\n")
    git(made_up.root, "add", ".")
    git(made_up.root, "commit", "-qm", "our own prompt")
    blob = git(made_up.root, "rev-parse", "HEAD:prompts/propose.md.j2").strip()
    with serving(Useful()) as server:
        done = Searched(made_up, server, "--candidates", "1", replies=cache, program=PROGRAM)
    assert done.code == 0, done.errors
    assert any("Floors, please, for grpo." in json.dumps(request) for request in server.requests)
    metrics = made_up.metrics_file(evaluated(made_up)[0])
    assert metrics is not None
    assert metrics.calls[0].prompt == blob


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("  base_url: null", "  base_url: https://gateway.example.org"), "git config --global --add poise.baseUrl"),
        (("  replay: null", "  replay: {folder: ../elsewhere}"), "anthropic.replay.folder"),
        (("  effort: null", "  effort: utmost"), "anthropic.effort"),
    ],
)
def test_invalid_settings_are_an_error_of_one_line(
    archive: Archive, cache: Path, edit: tuple[str, str], said: str
) -> None:
    edit_settings(archive.root, *edit)
    refs = git(archive.root, "for-each-ref")
    with serving(Useful()) as server:
        done = Searched(archive, server, "--candidates", "1", replies=cache)
    assert done.code == 2
    assert said in done.errors
    assert len(done.errors.strip().splitlines()) == 1
    assert not server.requests
    assert git(archive.root, "for-each-ref") == refs
