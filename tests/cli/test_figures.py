"""`show` and `status` as text, on archives whose figures are given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Proposal, Run
from poise_git.cli.main import cli
from poise_git.errors import UsageError
from poise_git.experiment import Experiment
from tests import sentences
from tests.conftest import edit_settings, git

pytestmark = pytest.mark.slow

Series = Mapping[str, tuple[float, ...]]
PLAIN: Series = {"entropy": (0.75, 0.25), "reward": (0.125, 0.5)}
IN_REGIMES: Series = {
    **{f"composite/{name}": values for name, values in PLAIN.items()},
    "accuracy/entropy": (0.875, 0.625),
    "accuracy/reward": (0.0, 0.0625),
}


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def measured(archive: Archive, name: str, values: Sequence[float], series: Series = IN_REGIMES) -> None:
    """Archive runs with these utilities, one per seed, and the metrics that follow."""
    if name != ROOT:
        source = archive.recipe(ROOT)["algorithm.py"] + f"\n# {name}\n"
        archive.add_candidate(Proposal(name, ROOT, name, "it helps", "test", "human"), source)
    experiment = Experiment.load(archive)
    # The regimes need not be evaluated on the same suites.
    details = {"composite": {"acc@1": 0.25, "chain-2": 0.125}, "accuracy": {"acc@1": 0.375, "chain-4": 0.0625}}
    for seed, value in zip(experiment.protocol.seeds, values, strict=True):
        figures = {"composite": value, "accuracy": value}
        archive.add_run(name, Run(experiment.protocol.hash, seed, figures, details, series, (), 1.0))
    archive.add_evidence(name, experiment.measure(name, experiment.runs(name, experiment.protocol.seeds)), None)


def edit_protocol(archive: Archive, old: str, new: str) -> None:
    file = Path(archive.root, "protocols/tiny.yaml")
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    git(archive.root, "commit", "-qam", new)


def test_show_prints_the_trajectory_of_one_regime(tiny_archive: Archive) -> None:
    measured(tiny_archive, ROOT, (0.2, 0.3))
    show = ("-C", tiny_archive.root, "show", ROOT)
    text = run(*show)
    assert f"trajectory in regime composite (--regime: composite, accuracy), {sentences.TRAJECTORY}" in text
    assert trajectory(text) == {"entropy": ["0.750", "0.250"], "reward": ["0.125", "0.500"]}
    assert trajectory(run(*show, "--regime", "composite")) == trajectory(text)
    assert trajectory(run(*show, "--regime", "accuracy")) == {
        "entropy": ["0.875", "0.625"],
        "reward": ["0.000", "0.062"],
    }
    with pytest.raises(UsageError, match=sentences.NO_REGIME.format(regime="sparse", known="composite, accuracy")):
        run(*show, "--regime", "sparse")


def test_show_has_a_column_for_every_figure_of_a_regime(tiny_archive: Archive) -> None:
    measured(tiny_archive, ROOT, (0.2, 0.3))
    text = run("-C", tiny_archive.root, "show", ROOT)
    rows = {
        line.split()[0]: line for line in text.splitlines() if line.startswith(("suite ", "composite ", "accuracy "))
    }
    assert rows["suite"].split() == ["suite", "y", "acc@1", "chain-2", "chain-4"]
    assert rows["composite"].rstrip().endswith("–")
    assert "0.0625" in rows["accuracy"]
    assert "0.0625" not in rows["composite"]


def test_show_prints_series_without_a_regime(tiny_archive: Archive) -> None:
    measured(tiny_archive, ROOT, (0.2, 0.3), PLAIN)
    show = ("-C", tiny_archive.root, "show", ROOT)
    text = run(*show)
    assert f"\ntrajectory, {sentences.TRAJECTORY}\n" in text
    assert trajectory(text) == {"entropy": ["0.750", "0.250"], "reward": ["0.125", "0.500"]}
    with pytest.raises(UsageError, match=sentences.NO_REGIME.format(regime="composite", known="none")):
        run(*show, "--regime", "composite")


def test_show_reports_missing_runs_and_series(tiny_archive: Archive) -> None:
    assert "trajectory" not in run("-C", tiny_archive.root, "show", ROOT)
    measured(tiny_archive, ROOT, (0.2, 0.3), {})
    assert "trajectory" not in run("-C", tiny_archive.root, "show", ROOT)


def trajectory(text: str) -> dict[str, list[str]]:
    lines = text.partition("\ntrajectory")[2].splitlines()[1:]
    return {words[0]: words[1:3] for words in map(str.split, lines) if words}


def resolution(archive: Archive) -> Any:
    return json.loads(run("-C", archive.root, "status", "--json"))["resolution"]


def test_status_has_no_resolution_before_a_measurement(tiny_archive: Archive) -> None:
    assert resolution(tiny_archive) is None
    assert "resolution  unknown" in run("-C", tiny_archive.root, "status")


def test_status_prints_detectable_differences_from_the_noise_of_the_archive(tiny_archive: Archive) -> None:
    measured(tiny_archive, ROOT, (0.20, 0.30))
    measured(tiny_archive, "one", (0.23, 0.31))
    found = resolution(tiny_archive)
    assert found["source"] == "archive"
    # Differences of 0.03 and 0.01 deviate by 0.02 / sqrt(2).
    assert found["deviation"] == pytest.approx(0.02 / 2**0.5)
    assert [row["seeds"] for row in found["by_seeds"]] == [1, 2, 4, 8, 16]
    own = next(row for row in found["by_seeds"] if row["seeds"] == 2)
    assert own == found["own"]
    assert found["relative"] == pytest.approx(own["difference"] / 0.25)
    text = run("-C", tiny_archive.root, "status")
    share = f"{found['relative']:.0%}"
    detects = sentences.STATUS_DETECTS.format(seeds=2)
    assert f"resolution  {detects} {own['difference']:.4f} in U ({share} of grpo's)" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["seeds", "1", "[2]", "4", "8", "16"] in lines
    differences = ["–", *(f"{row['difference']:.4f}" for row in found["by_seeds"][1:])]
    assert [sentences.STATUS_DIFFERENCE, *differences] in lines
    assert sentences.STATUS_DEVIATION.format(deviation=0.0141) + sentences.STATUS_MEASURED in text


def test_status_uses_the_stated_deviation_until_the_archive_has_enough_runs(tiny_archive: Archive) -> None:
    before = Experiment.load(tiny_archive).protocol.hash
    edit_protocol(
        tiny_archive, "backend: testbed\n", "backend: testbed\npaired_deviation: {value: 0.02, freedom: 20}\n"
    )
    assert Experiment.load(tiny_archive).protocol.hash == before
    found = resolution(tiny_archive)
    assert (found["source"], found["deviation"], found["relative"]) == ("protocol", 0.02, None)
    text = run("-C", tiny_archive.root, "status")
    stated = sentences.STATUS_STATED.format(archive=sentences.STATUS_NOT_MEASURED)
    assert sentences.STATUS_DEVIATION.format(deviation=0.02) + stated in text
    measured(tiny_archive, ROOT, (0.20, 0.30))
    measured(tiny_archive, "one", (0.23, 0.31))
    assert resolution(tiny_archive)["source"] == "protocol"
    stated = sentences.STATUS_STATED.format(archive=sentences.STATUS_TOO_FEW)
    assert stated in run("-C", tiny_archive.root, "status")
    for i in range(7):
        measured(tiny_archive, f"more-{i}", (0.23, 0.31))
    found = resolution(tiny_archive)
    assert (found["source"], found["comparisons"]) == ("archive", 8)
    assert found["deviation"] == pytest.approx(0.02 / 2**0.5)


def test_status_says_what_a_result_predicts(tiny_archive: Archive) -> None:
    assert sentences.STATUS_PREDICTS_NOTHING in run("-C", tiny_archive.root, "status")
    before = Experiment.load(tiny_archive).protocol.hash
    stated = "predicts: >\n  the direction of 9 of 12\n  effects elsewhere\n"
    edit_protocol(tiny_archive, "backend: testbed\n", "backend: testbed\n" + stated)
    assert Experiment.load(tiny_archive).protocol.hash == before
    text = run("-C", tiny_archive.root, "status")
    assert "predicts    the direction of 9 of 12 effects elsewhere (stated in protocols/tiny.yaml)\n" in text
    document = json.loads(run("-C", tiny_archive.root, "status", "--json"))
    assert document["predicts"] == "the direction of 9 of 12 effects elsewhere"
    # The text may come from a stranger, so it cannot control the terminal.
    edit_protocol(tiny_archive, stated, 'predicts: "\\x1b[31mall\\nof it"\n')
    assert "predicts    \\x1b[31mall of it (stated" in run("-C", tiny_archive.root, "status")


def test_the_stated_deviation_is_not_used_for_another_objective(tiny_archive: Archive) -> None:
    edit_protocol(
        tiny_archive, "backend: testbed\n", "backend: testbed\npaired_deviation: {value: 0.02, freedom: 20}\n"
    )
    edit_settings(tiny_archive.root, "  metrics: {}", "  metrics: {composite: 1}")
    assert resolution(tiny_archive) is None
