"""A stranger's archive: for any content of files and notes, commands end soon and print no control characters."""

from __future__ import annotations

import io
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Estimate, Metrics, Reflection, Run, Status
from poise_git.archive.facts import ReflectionFacts
from poise_git.archive.refs import METRICS_NOTES, TRAJECTORY_NOTES
from poise_git.cli.main import main
from poise_git.experiment import Experiment
from poise_git.untrusted.display import visible
from tests.archive.conftest import make_proposal
from tests.conftest import git
from tests.layers import without_warning

pytestmark = pytest.mark.slow

ESCAPES = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eevil\u202c\u200b\U000e0041\r"
SOON = 30.0
NO_HOOKS = ("-c", "core.hooksPath=/dev/null")


@dataclass(frozen=True)
class Done:
    code: int
    stdout: str
    stderr: str


def run(archive: Archive, verb: str) -> Done:
    """Run a command in this process, because starting an interpreter takes longer than most commands."""
    started, out, err = time.monotonic(), io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["poise-git", "-C", str(archive.root), *verb.split()])
        with pytest.raises(SystemExit) as ended:
            main()
    done = Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())
    assert time.monotonic() - started < SOON, verb
    for text in (done.stdout, done.stderr):
        assert visible(text) == text, verb
    assert done.code in (0, 1, 2), done.stderr
    if done.code and verb != "doctor" and "check" not in verb:
        # The figures of this archive are made up, so every command that reads them warns first.
        assert len([line for line in without_warning(done.stderr).splitlines() if " is suspicious" not in line]) == 1, (
            done.stderr
        )
    return done


def measured(archive: Archive) -> str:
    """The root and a child with figures; returns the protocol's hash."""
    protocol = Experiment.load(archive).protocol.hash
    algorithm = archive.recipe(ROOT)["algorithm.py"]
    archive.add_candidate(make_proposal("child"), algorithm + "\n# child\n")
    for name, value in ((ROOT, 0.1), ("child", 0.2)):
        for seed in (0, 1):
            archive.add_run(name, Run(protocol, seed, {"composite": value, "accuracy": value}, {}, {}, (), 1.0))
        estimate = Estimate(value, 0.01, 2)
        values = {"composite": estimate, "accuracy": estimate}
        gain = Estimate(0.1, 0.01, 2) if name != ROOT else None
        metrics = Metrics(Status.EVALUATED, protocol, estimate, gain, values, seeds=(0, 1), cpu_seconds=1.0)
        archive.add_evidence(name, metrics, Reflection(ReflectionFacts.from_data({"verdict": "better"}), "Prose."))
    return protocol


def put_note(archive: Archive, ref: str, candidate: str, line: str) -> None:
    file = archive.root.parent / "note"
    file.write_text(line + "\n", encoding="utf-8")
    git(archive.root, *NO_HOOKS, "notes", f"--ref={ref}", "add", "-f", "-F", str(file), f"poise/{candidate}")


def commit(archive: Archive, branch: str, files: dict[str, str]) -> None:
    """Put files on a branch with plain git, without a checkout."""
    tree = archive.root.parent / f"tree-{branch.replace('/', '-')}"
    git(archive.root, *NO_HOOKS, "worktree", "add", "--force", str(tree), branch)
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text, encoding="utf-8")
    git(tree, "add", "-A")
    git(tree, *NO_HOOKS, "commit", "-qm", "strange", "--no-verify")
    git(archive.root, "worktree", "remove", "--force", str(tree))


def line(protocol: str, **others: object) -> str:
    fields = {"status": "evaluated", "protocol": protocol, "U": [0.1, 0.01, 2], "gain": [0.1, 0.01, 2]}
    return json.dumps({**fields, "y": {}, "seeds": [0], "at": 9e9, "v": 1} | others)


ESTIMATES: Sequence[object] = (
    ["0.9", "0.1", "2"], [{}, None, 2], [True, 0.1, 2], [math.nan, 0.1, 2], [math.inf, math.nan, 2], [10**400, 0.1, 2],
    [1], [1, 2, 3, 4, 5], "words", [0.1, 0.1, -1], [[0.1], 0.1, 2], [0.1, 0.1, 10**30], {"value": 1},
)  # fmt: skip


@pytest.mark.parametrize("numbers", ESTIMATES, ids=lambda value: json.dumps(value)[:24])
def test_invalid_numbers_in_a_metrics_note_give_no_traceback(tiny_archive: Archive, numbers: object) -> None:
    protocol = measured(tiny_archive)
    for note in (
        line(protocol, U=numbers), line(protocol, y={"composite": numbers, "accuracy": numbers}),
        line(protocol, gain=numbers, usd=numbers), line(protocol, violations=[["a", "b", numbers]], dynamics=numbers),
    ):  # fmt: skip
        put_note(tiny_archive, METRICS_NOTES, "child", note)
        run(tiny_archive, "log")
    for verb in ("log", "select", "show child", "context grpo", "doctor"):
        run(tiny_archive, verb)
    # NaN is how a missing figure is written.
    finite = not any(isinstance(value, float) and not math.isfinite(value) for value in numbers)
    assert ("unreadable line" in run(tiny_archive, "doctor").stdout) or not finite


SERIES: Sequence[object] = (
    {"reward": ["a", "b"]}, {"reward": [{}]}, {"reward": "text"}, {"reward": None},
    {"reward": [math.nan, math.inf, 1e308]},
    {"reward": []}, {"reward": [0.0] * 1_000_000}, {"\x1b[2J": [0.1]}, {"reward": [1e308, -1e308]}, "series", [1], None,
    {"reward": [10**300]}, {f"s{n}": [0.1] for n in range(3000)},
)  # fmt: skip


@pytest.mark.parametrize("series", SERIES, ids=lambda value: json.dumps(value)[:24])
def test_invalid_series_of_a_run_give_no_traceback(tiny_archive: Archive, series: object) -> None:
    protocol = measured(tiny_archive)
    fields = {"protocol": protocol, "values": {"composite": 0.1, "accuracy": 0.1}, "details": {}, "curve": []}
    note = {**fields, "seed": 0, "series": series, "cpu_seconds": 1.0, "at": 9e9, "v": 1}
    put_note(tiny_archive, TRAJECTORY_NOTES, "child", "\n".join(json.dumps({**note, "seed": seed}) for seed in (0, 1)))
    for verb in ("show child", "context child", "show child --json", "doctor"):
        run(tiny_archive, verb)


LINES = (
    '{"at":1,"v":1,"x":' + "[" * 200_000, '{"at":1' + "0" * 5000 + ',"v":1}', '{"at":1,"v":1,"protocol":"\\ud800"}',
    '{"at":1e999,"v":1}', '{"at":NaN,"v":1}', '{"at":1,"v":1}' + "x" * 20_000_000, '{"at":true,"v":true}', "{" * 10_000,
)  # fmt: skip


@pytest.mark.parametrize("note", LINES, ids=lambda text: text[:24])
def test_malformed_json_lines_are_reported(tiny_archive: Archive, note: str) -> None:
    measured(tiny_archive)
    for ref in (METRICS_NOTES, TRAJECTORY_NOTES):
        put_note(tiny_archive, ref, "child", note)
    for verb in ("log", "show child"):
        run(tiny_archive, verb)
    assert "unreadable line" in run(tiny_archive, "doctor").stdout


def bomb(levels: int = 40) -> str:
    return "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, levels))])


DOCUMENTS: dict[str, str] = {
    "bomb": bomb(), "recursive": "a: &a [*a]", "deep": "a: " + "[" * 100_000, "deep-block": "- " * 50_000,
    "twice": "name: a\nname: b", "tag": "a: !!python/object/apply:os.system [id]", "list": "[1, 2]",
    "number": "9" * 9000,
    "merge": "a: &a {b: 1}\n" + "\n".join(f"c{n}: {{<<: [{', '.join(['*a'] * 3000)}]}}" for n in range(400)),
    "long": "a: " + "x" * 9_000_000, "many": "a: [" + "1, " * 600_000 + "]",
    "types": "name: [1]\nparent: {}\nclaims: 5",
    "nothing": "", "nul": "a: \x07",
}  # fmt: skip


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS)
def test_malformed_yaml_of_an_evidence_branch_gives_no_traceback(tiny_archive: Archive, text: str) -> None:
    measured(tiny_archive)
    files = {f"evidence/child/{name}.yaml": text for name in ("proposal", "metrics")}
    commit(tiny_archive, "evidence/child", {**files, "evidence/child/reflection.md": f"---\n{text}\n---\nprose\n"})
    for verb in ("log", "show child", "context child", "select"):
        run(tiny_archive, verb)


# Documents of megabytes take time, and all files are read in the same way.
SHORT = {name: text for name, text in DOCUMENTS.items() if len(text) < 1_000_000}


@pytest.mark.parametrize("place", ["settings", "protocol", "protocol-settings", "card"])
@pytest.mark.parametrize("text", SHORT.values(), ids=SHORT)
def test_malformed_yaml_of_settings_protocols_and_cards_gives_no_traceback(
    tiny_archive: Archive, place: str, text: str
) -> None:
    root = tiny_archive.root
    if place == "settings":
        (root / "poise.yaml").write_text(text)
    elif place == "card":
        next((root / "literature").glob("*.yaml")).write_text(text)
    else:
        file = root / "protocols" / "tiny.yaml"
        inside = "".join(f"  {each}\n" for each in text.split("\n"))
        file.write_text(
            text if place == "protocol" else file.read_text().replace("settings:\n", f"settings:\n{inside}")
        )
    git(root, *NO_HOOKS, "commit", "-qam", "strange", "--no-verify")
    for verb in ("status", "select"):
        run(tiny_archive, verb)


@pytest.mark.parametrize("text", SHORT.values(), ids=SHORT)
def test_malformed_yaml_of_the_journal_gives_no_traceback(tiny_archive: Archive, text: str) -> None:
    measured(tiny_archive)
    tiny_archive.write_round(1, {"round": 1})
    slots = f"slots:\n- {{child: 1}}\ncalls: {{}}\n{text}"
    commit(tiny_archive, "poise-journal", {"rounds/0001.yaml": slots, "principles.yaml": text, "calls/1.yaml": slots})
    for verb in ("status", "select", "context child", "show child"):
        run(tiny_archive, verb)


TEMPLATES: dict[str, str] = {
    "format": '{{ "%1000000000d"|format(1) }}', "lipsum": "{{ lipsum(n=100000) }}", "power": "{{ 9**9**9 }}",
    "loops": "".join("{% for a" + str(n) + " in groups %}" for n in range(20)) + "{% endfor %}" * 20,
    "repeat": "{{ 'x' * 10**9 }}", "class": "{{ groups.__class__.__mro__ }}", "deep": "{{ " + "(" * 9000 + " }}",
    "lists": "{% set a = [groups, groups] %}" + "{% set a = [a, a] %}" * 60 + "{{ a }}",
    "macro": "{% macro m() %}{{ m() }}"
    "{% endmacro %}{{ m() }}", "joined": "{{ groups|string|join(groups|string) }}", "broken": "{% for",
    "long": "x" * 10**6,
    "escapes": ESCAPES,
}  # fmt: skip


@pytest.mark.parametrize("text", TEMPLATES.values(), ids=TEMPLATES)
def test_a_hostile_template_of_an_archive_gives_no_traceback(tiny_archive: Archive, text: str) -> None:
    measured(tiny_archive)
    file = tiny_archive.root / "prompts" / "context.md.j2"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    git(tiny_archive.root, "add", "-A")
    git(tiny_archive.root, *NO_HOOKS, "commit", "-qm", "a template")
    run(tiny_archive, "context child")


def test_escape_sequences_are_made_visible(tiny_archive: Archive) -> None:
    protocol = measured(tiny_archive)
    said = f"{ESCAPES}\nforged: U 0.9999"
    proposal = make_proposal("marked", mechanism=said, hypothesis=said, family=said, agent=said, priors=(said,))
    tiny_archive.add_candidate(proposal, tiny_archive.recipe(ROOT)["algorithm.py"] + f"\n# {ESCAPES[:-1]}\n")
    tiny_archive.add_evidence(
        "marked", Metrics(Status.FAILED, protocol, stage=said, reason=said), Reflection(ReflectionFacts(), said)
    )
    raw = git(tiny_archive.root, "log", "-1", "--notes=poise/*", "poise/marked")
    assert visible(raw) == raw
    put_note(tiny_archive, METRICS_NOTES, "child", line(protocol, status="failed", stage=said, reason=said))
    for verb in ("log", "show marked", "show child", "show marked --json", "diff marked", "doctor", "check --all"):
        done = run(tiny_archive, verb)
        assert "\nforged" not in done.stdout or verb == "show marked"
    assert r"\x1b]0;title\x07" in run(tiny_archive, "log").stdout


def test_only_one_module_of_the_cli_prints() -> None:
    folder = Path(sys.modules["poise_git"].__file__ or "").parent / "cli"
    ways: Sequence[Callable[[str], bool]] = (
        lambda text: "click.echo" in text or "click.secho" in text,
        lambda text: any(each in text for each in (" print(", "\nprint(", "sys.stdout.write", "sys.stderr.write")),
        lambda text: "import echo\n" in text and "from click" in text,
    )
    printing = {file.name for file in folder.glob("*.py") if any(way(file.read_text()) for way in ways)}
    assert printing == {"output.py"}
