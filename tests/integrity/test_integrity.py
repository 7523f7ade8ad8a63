"""Figures that can be traced: every figure is recomputed from archived runs, or a message states why it is not.

The tests copy one small search on the testbed, and forge and repair it with plain git.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Estimate, Isolation, Metrics, Outcome, Proposal, Reproduction, Status
from poise_git.archive.notes import metrics_line
from poise_git.cli.main import cli
from poise_git.errors import PoiseError
from poise_git.experiment import Experiment
from poise_git.operators.reproduce import allowed_difference
from poise_git.search.selection.survey import standing
from tests import sentences
from tests.conftest import copy_of, edit_settings, git

pytestmark = pytest.mark.slow

UNHOOKED = ("-c", "core.hooksPath=/dev/null")
METRICS, TRAJECTORY = "refs/notes/poise/metrics", "refs/notes/poise/trajectory"


def call(*arguments: object) -> Result:
    """Run a command; a refusal is the exception of its result, with exit code 1."""
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if done.exception and not isinstance(done.exception, PoiseError | SystemExit):
        raise done.exception
    return done


def json_of(root: Path, *arguments: str) -> Any:
    return json.loads(call("-C", root, *arguments, "--json").stdout)


def findings(root: Path) -> list[str]:
    return [f"{each['where']}: {each['what']}; {each['advice']}" for each in json_of(root, "doctor")["findings"]]


def marks(root: Path) -> dict[str, str]:
    return {each["name"]: each["integrity"]["mark"] for each in json_of(root, "log") if each["integrity"]}


@pytest.fixture(scope="module")
def searched(archive_templates: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of three candidates; all tests of this module work on copies."""
    folder = tmp_path_factory.mktemp("integrity") / "search"
    shutil.copytree(archive_templates["short"], folder, symlinks=True)
    done = call("evolve", folder, "--candidates", "3", "--workers", "2")
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def root(searched: Path, tmp_path: Path) -> Path:
    return copy_of(searched, tmp_path / "search").root


def isolated(root: Path) -> None:
    """Record full isolation for every run, as on a machine with all layers."""
    archive = Archive.open(root)
    runs = {candidate.name: archive.trajectory(candidate).runs for candidate in archive.genealogy()}
    git(root, "update-ref", "-d", TRAJECTORY)
    for name, of_candidate in runs.items():
        for run in of_candidate:
            Archive.open(root).add_run(name, replace(run, isolation=Isolation()))


def forge(root: Path, name: str, metrics: Metrics, at: float | None = None) -> None:
    git(root, "notes", f"--ref={METRICS}", "append", "-m", metrics_line(metrics, at or time.time()), f"poise/{name}")


def worst(root: Path) -> tuple[str, Metrics]:
    """An evaluated candidate that is not the best."""
    found = Experiment.load(Archive.open(root)).evaluated()
    name = min((name for name in found if name != ROOT), key=lambda name: standing(found[name][1]))
    return name, found[name][1]


def test_an_honest_archive_is_verified_and_has_no_findings(root: Path) -> None:
    assert set(marks(root).values()) <= {"unverified", "verified"}
    isolated(root)
    assert set(marks(root).values()) == {"verified"}
    assert findings(root) == []
    assert call("-C", root, "check", "--all").stdout.endswith(sentences.CHECK_ALL_PASSED)
    shown = call("-C", root, "log").stdout
    assert sum("verified" in line for line in shown.splitlines()) == len(marks(root))
    assert "figures verified" in call("-C", root, "show", ROOT).stdout
    best = call("-C", root, "best")
    assert best.stderr == ""
    assert "figures verified" in best.stdout


def test_a_forged_note_is_reported_and_does_not_affect_selection(root: Path) -> None:
    before = json_of(root, "best")["name"]
    selected = json_of(root, "select")
    name, honest = worst(root)
    forge(root, name, replace(honest, utility=Estimate(0.99, 0.001, 2), gain=Estimate(0.85, 0.001, 2, 0.002)))
    best = call("-C", root, "best", "--json")
    assert json.loads(best.stdout)["name"] == before
    assert best.stderr.count("\n") == 1
    assert f"{name} is suspicious: its note says U 0.9900" in best.stderr
    again = json_of(root, "select")
    assert again == selected, "the ranks of the forged candidate and its rivals do not change"
    for output in ("\n".join(findings(root)), call("-C", root, "check", "--all").output):
        (line,) = [line for line in output.splitlines() if "0.9900" in line]
        assert f"poise/{name}" in line
        assert f"poise-git reproduce {name} --seed 0" in line
    assert marks(root)[name] == "suspicious"
    assert "suspicious: its note says U 0.9900" in call("-C", root, "show", name).stdout

    # A line from the future would take precedence over all later lines; the archived runs still count.
    forge(root, name, replace(honest, utility=Estimate(0.98, 0.001, 2)), at=time.time() + 1e9)
    assert call("-C", root, "reflect", name).exit_code == 0
    assert json_of(root, "best")["name"] == before

    # The command that doctor prints names the protocol of those figures, whatever poise.yaml names now.
    forge(root, name, replace(honest, utility=Estimate(0.97, 0.001, 2)), at=time.time() + 1e9)
    edit_settings(root, "protocol: short", "protocol: tiny")
    assert any(f"poise-git reproduce {name} --seed 0 --protocol short" in line for line in findings(root))


def test_metrics_ahead_of_the_archive_give_no_verdict_on_a_note(root: Path) -> None:
    before = json_of(root, "best")["name"]
    name, honest = worst(root)
    forge(root, name, replace(honest, utility=Estimate(0.98, 0.001, 2)), at=time.time() + 1e9)
    experiment = Experiment.load(Archive.open(root))
    genealogy = experiment.archive.genealogy()
    measured = replace(genealogy[name], metrics={experiment.protocol.hash: honest})
    experiment.counted(genealogy.with_candidate(measured))
    assert json_of(root, "best")["name"] == before


def test_a_note_without_runs_or_evidence_does_not_count(root: Path) -> None:
    archive = Archive.open(root)
    before, protocol = json_of(root, "best")["name"], Experiment.load(archive).protocol.hash
    source = archive.recipe(ROOT)["algorithm.py"] + "\n# boasts\n"
    archive.add_candidate(Proposal("boasts", ROOT, "boasts", "it helps", "test", "human"), source)
    forge(root, "boasts", Metrics(Status.EVALUATED, protocol, Estimate(0.99, 0.001, 2), seeds=(0, 2)))
    best = call("-C", root, "best", "--json")
    assert json.loads(best.stdout)["name"] == before
    assert "boasts is suspicious: a note says U 0.9900" in best.stderr
    assert sentences.DOES_NOT_COUNT in best.stderr
    assert any(line.startswith("refs/heads/poise/boasts: a note says U 0.9900") for line in findings(root))
    assert "boasts" not in call("-C", root, "select").stdout
    # The printed command helps.
    (line,) = [line for line in findings(root) if line.startswith("refs/heads/poise/boasts: a note")]
    remove, evaluate = line.partition("; ")[2].split(" && ")
    git(root, *remove.split()[1:])
    assert evaluate == "poise-git evaluate boasts"
    assert "boasts" not in call("-C", root, "best").stderr


def test_a_forged_failure_does_not_exclude_a_rival(root: Path) -> None:
    best = json_of(root, "best")["name"]
    protocol = Experiment.load(Archive.open(root)).protocol.hash
    forge(root, best, Metrics(Status.FAILED, protocol, stage="train", reason="diverged"))
    done = call("-C", root, "best", "--json")
    assert json.loads(done.stdout)["name"] == best
    assert "its note says failed at train" in done.stderr


def test_forged_evidence_is_reported(root: Path) -> None:
    name, honest = worst(root)
    forged = replace(honest, utility=Estimate(0.97, 0.001, 2))
    archive = Archive.open(root)
    archive.add_evidence(name, forged, None)
    forge(root, name, honest)
    lines = [line for line in findings(root) if f"poise/{name}" in line]
    assert any(f"evidence/{name} says U 0.9700" in line for line in lines), lines
    assert json_of(root, "best")["name"] != name


def edit_run(root: Path, name: str, **changes: Any) -> None:
    """Replace the first archived run of a candidate by a changed one, as by an edit of the notes."""
    archive = Archive.open(root)
    candidate = archive.genealogy()[name]
    lines = git(root, "notes", f"--ref={TRAJECTORY}", "show", candidate.commit).splitlines()
    for place, line in enumerate(lines):
        data = json.loads(line) if line.startswith("{") else {}
        if data.get("seed") == 0:
            lines[place] = json.dumps(data | changes)
    (root / "note.txt").write_text("\n".join(lines))
    git(root, *UNHOOKED, "notes", f"--ref={TRAJECTORY}", "add", "-f", "-F", str(root / "note.txt"), candidate.commit)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"values": {"composite": 0.9, "reuse": 0.9}}, "its curve gives composite"),
        ({"values": {"composite": 1.9, "reuse": 0.9}}, sentences.NOT_A_SHARE),
        ({"series": {"composite/reward": [0.5] * 7}}, "has 7 steps, the protocol 6"),
        ({"series": {}}, "there is no series of regime composite"),
        ({"curve": []}, "its curve has 0 points, the protocol 3"),
        # A line of another form is ignored, and reported as a line.
        ({"curve": [{"overall": "x"}] * 3}, "no runs of seeds 0"),
        ({"values": {"composite": "0.9", "reuse": 0.9}}, "0"),
        ({"details": {"composite": {"acc@1": 7.0}}}, "acc@1 7 is not a share"),
        ({"seed": 77}, sentences.FOREIGN_SEED.format(seed=77)),
    ],
)
def test_a_forged_run_is_reported(root: Path, changes: dict[str, Any], said: str) -> None:
    name, _ = worst(root)
    edit_run(root, name, **changes)
    lines = [line for line in findings(root) if f"poise/{name}:" in line]
    assert any(said in line for line in lines), lines
    assert marks(root)[name] in ("suspicious", "unverified")
    for verb in ("log", "best", "select", "status"):
        done = call("-C", root, verb)
        assert done.exit_code == 0, done.output


def test_runs_of_other_code_and_lines_of_a_later_version_are_reported(root: Path) -> None:
    name, _ = worst(root)
    edit_run(root, name, algorithm="0123456789ab", at=time.time() + 1e9)
    lines = [line for line in findings(root) if f"poise/{name}:" in line]
    assert any("of other code (blob 0123456789ab)" in line for line in lines), lines
    assert any("dated in the future" in line for line in lines), lines


def test_an_unisolated_run_is_unverified_and_lists_missing_layers(root: Path) -> None:
    name, _ = worst(root)
    isolated(root)
    edit_run(root, name, isolation={"missing": ["landlock"], "trusted": False})
    assert json_of(root, "show", name)["integrity"] == {
        "mark": "unverified", "reason": "a run was trained without landlock"
    }  # fmt: skip
    edit_run(root, name, isolation={"missing": [], "trusted": True})
    assert "--trust" in json_of(root, "show", name)["integrity"]["reason"]
    log = call("-C", root, "log").stdout
    assert "unverified: a run was trained with --trust, in the trainer's own process (1 candidate)" in log


def test_a_run_reproduces_to_the_last_bit_and_nothing_archived_changes(root: Path) -> None:
    name, _ = worst(root)
    runs = json_of(root, "show", name)["runs"]
    done = call("-C", root, "reproduce", name)
    assert done.exit_code == 0, done.output
    assert f"{name} reproduces on seed 0: equal to the last bit" in done.stdout
    document = json_of(root, "show", name)
    assert document["runs"] == runs
    assert [each["outcome"] for each in document["reproductions"]] == ["equal"]
    assert "reproduced: seed 0, equal to the last bit" in call("-C", root, "show", name).stdout
    data = json.loads(call("-C", root, "reproduce", ROOT, "--seed", "2", "--json").stdout)
    assert data["reproduces"] is True
    assert data["seed"] == 2
    assert not [line for line in findings(root) if name in line or ROOT in line]


def test_a_forged_trajectory_does_not_reproduce_and_does_not_count(root: Path) -> None:
    """Runs, metrics and evidence forged together agree with each other; only training again contradicts them."""
    name, _ = worst(root)
    archive = Archive.open(root)
    experiment = Experiment.load(archive)
    for run in experiment.runs(name, experiment.protocol.seeds):
        curve = tuple({**point, **dict.fromkeys(("composite", "reuse", "overall"), 0.95)} for point in run.curve)
        archive.add_run(name, replace(run, values={"composite": 0.95, "reuse": 0.95}, curve=curve))
    # The honest lines are removed, too.
    commit = archive.genealogy()[name].commit
    lines = git(root, "notes", f"--ref={TRAJECTORY}", "show", commit).splitlines()
    (root / "note.txt").write_text("\n".join(line for line in lines if "0.95" in line))
    git(root, *UNHOOKED, "notes", f"--ref={TRAJECTORY}", "add", "-f", "-F", str(root / "note.txt"), commit)
    archive.add_evidence(name, experiment.measure(name, experiment.runs(name, experiment.protocol.seeds)), None)
    assert json_of(root, "best")["name"] == name
    assert findings(root) == []

    done = call("-C", root, "reproduce", name, "--seed", "0")
    assert done.exit_code == 1
    assert "does not reproduce on seed 0: values composite was 0.95, now" in str(done.exception)
    best = call("-C", root, "best", "--json")
    assert json.loads(best.stdout)["name"] != name
    assert f"{name} is suspicious: seed 0 did not reproduce" in best.stderr
    assert any(f"poise-git reproduce {name} --seed 0" in line for line in findings(root))


def test_different_last_bits_do_not_prove_forgery(root: Path) -> None:
    name, _ = worst(root)
    archive = Archive.open(root)
    protocol = Experiment.load(archive).protocol.hash
    archive.add_reproduction(
        name, Reproduction(protocol, 0, Outcome.DIFFERS, "values composite", 0.15, 0.1501, 0.0001, 0.02)
    )
    assert marks(root)[name] == "unverified"
    assert name in Experiment.load(archive).evaluated()


def test_a_later_line_does_not_clear_a_run_that_did_not_reproduce(root: Path) -> None:
    """Anyone can write a line with any date."""
    name, _ = worst(root)
    archive = Archive.open(root)
    protocol = Experiment.load(archive).protocol.hash
    archive.add_reproduction(
        name, Reproduction(protocol, 0, Outcome.DIFFERS, "values composite", 0.95, 0.1, -0.85, 0.02)
    )
    archive.add_reproduction(name, Reproduction(protocol, 0, Outcome.EQUAL))
    assert marks(root)[name] == "suspicious"
    assert "not reproduced: seed 0" in call("-C", root, "show", name).stdout
    assert any("remove it" in line for line in findings(root))


def test_a_stated_noise_that_the_runs_contradict_proves_nothing(root: Path) -> None:
    """`paired_deviation` is not part of the protocol's hash, so anyone can state one for figures that exist."""
    protocol = root / "protocols" / "short.yaml"
    text = protocol.read_text()
    protocol.write_text(f"{text}paired_deviation: {{value: 1.0e-9, freedom: 1000000}}\n")
    git(root, "commit", "-qam", "noise")
    for name in marks(root):
        call("-C", root, "reflect", name)
    assert {mark for name, mark in marks(root).items() if name != ROOT} == {"unverified"}
    assert any("states paired_deviation 1e-09" in line for line in findings(root))
    protocol.write_text(f"{text}paired_deviation: {{value: 3.0, freedom: 100}}\n")
    git(root, "commit", "-qam", "noise")
    allowed = allowed_difference(Experiment.load(Archive.open(root)))
    assert allowed is not None
    assert allowed < 1


def hub_of(root: Path, to: Path) -> Path:
    """A hub that received the archive with `git push --all`."""
    git(root, "init", "-q", "--bare", str(to))
    git(root, "push", "-q", "--all", "--no-verify", str(to))
    git(to, "symbolic-ref", "HEAD", "refs/heads/main")
    return to


def test_a_hub_without_notes_has_every_figure_and_trains_nothing(root: Path, tmp_path: Path) -> None:
    whole = json_of(root, "log")
    hub = hub_of(root, tmp_path / "hub.git")
    seen = json_of(hub, "log")
    for own, theirs in zip(whole, seen, strict=True):
        assert own["name"] == theirs["name"]
        assert own["status"] == theirs["status"]
        if own["status"] == "evaluated":
            assert theirs["metrics"]["utility"]["value"] == pytest.approx(own["metrics"]["utility"]["value"], rel=1e-5)
    assert json_of(hub, "best")["name"] == json_of(root, "best")["name"]
    assert set(marks(hub).values()) == {"unverified"}
    lines = findings(hub)
    assert any("on the evidence branches alone" in line and "doctor --repair" in line for line in lines), lines
    assert any(sentences.NO_RUNS in line for line in lines), lines

    evolved = call("-C", hub, "evolve", "--candidates", "3", "--json")
    assert evolved.exit_code == 0, evolved.output
    events = [json.loads(line)["event"] for line in evolved.stdout.splitlines()]
    assert "RunEnded" not in events

    assert call("-C", hub, "doctor", "--repair").exit_code == 1, "trajectories cannot be recovered"
    assert [line for line in findings(hub) if "evidence branches alone" in line] == []
    notes = git(hub, "notes", f"--ref={METRICS}", "list").splitlines()
    assert len(notes) == len([each for each in whole if each["metrics"]])
    assert {each["name"]: each["status"] for each in json_of(hub, "log")} == {
        each["name"]: each["status"] for each in whole
    }

    # The search trains only the root, for pairing, and the new candidate.
    evolved = call("-C", hub, "evolve", "--candidates", "4", "--json", "--workers", "2")
    assert evolved.exit_code == 0, evolved.output
    trained = {
        event["candidate"] for line in evolved.stdout.splitlines() if (event := json.loads(line))["event"] == "RunEnded"
    }
    assert ROOT in trained
    assert not trained & {each["name"] for each in whole if each["metrics"] and each["name"] != ROOT}
    gains = {each["name"]: (each["metrics"] or {}).get("gain") for each in json_of(hub, "log")}
    assert all(gain is not None for name, gain in gains.items() if name in trained - {ROOT} and marks(hub).get(name))


def test_missing_notes_are_read_from_the_evidence_branches(root: Path, tmp_path: Path) -> None:
    whole = {each["name"]: each["status"] for each in json_of(root, "log")}
    name, metrics = worst(root)
    git(root, *UNHOOKED, "notes", f"--ref={METRICS}", "remove", f"poise/{name}")
    assert {each["name"]: each["status"] for each in json_of(root, "log")} == whole
    (line,) = [line for line in findings(root) if "evidence branches alone" in line]
    assert f"the figures of 1 candidate ({name}) are" in line
    call("-C", root, "doctor", "--repair")
    assert not [line for line in findings(root) if "evidence branches alone" in line]
    found = Archive.open(root).genealogy()[name].metrics[metrics.protocol].utility
    assert found is not None
    assert metrics.utility is not None
    assert found.value == pytest.approx(metrics.utility.value, rel=1e-5)


def test_a_clone_fetches_notes_if_there_are_any(root: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(root), str(clone))
    git(
        clone,
        "fetch",
        "-q",
        "origin",
        "refs/heads/poise/*:refs/heads/poise/*",
        "refs/heads/evidence/*:refs/heads/evidence/*",
    )
    git(clone, "branch", "-q", "main", "origin/main") if not git(clone, "branch", "--list", "main") else None
    (line,) = [line for line in findings(clone) if "evidence branches alone" in line]
    assert "git fetch origin 'refs/notes/poise/*:refs/notes/poise/*'" in line
    call("-C", clone, "doctor", "--repair")
    assert Archive.open(clone).trajectory(Archive.open(clone).genealogy()[ROOT]).runs
    assert not [line for line in findings(clone) if "no runs" in line]
