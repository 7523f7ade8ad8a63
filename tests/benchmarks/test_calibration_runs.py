from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from calibration import ROOT
from calibration_figures import Calibration, begun_elsewhere
from calibration_runs import Record, Trainer, read_records, variant
from resolution_report import report

from poise_git.errors import UsageError
from poise_git.pipeline.backends.testbed.settings import parse_settings
from poise_git.pipeline.protocol import Protocol, load_protocol
from poise_git.pipeline.sandbox import Sandbox
from poise_git.settings import SandboxSettings

TINY = Path(__file__).parents[1] / "protocols" / "tiny.yaml"
WEIGHTS = {"composite": 0.5, "length": 0.5}


@pytest.fixture
def tiny() -> Protocol:
    return load_protocol(TINY.read_text(encoding="utf-8"), TINY.name)


def test_a_variant_keeps_the_settings_that_it_does_not_name(tiny: Protocol) -> None:
    assert variant(tiny, [], 1.0, None).hash == tiny.hash
    halved = parse_settings(variant(tiny, ["accuracy"], 0.5, None), "tiny.yaml")
    assert list(halved.regimes) == ["accuracy"]
    whole = parse_settings(tiny, "tiny.yaml").regimes["accuracy"].training
    assert halved.regimes["accuracy"].training.learning_rate == pytest.approx(whole.learning_rate / 2)
    assert halved.regimes["accuracy"].training.steps == whole.steps
    assert variant(tiny, [], 0.5, None).hash != tiny.hash
    assert parse_settings(variant(tiny, [], 1.0, "cuda"), "tiny.yaml").device == "cuda"
    assert parse_settings(tiny, "tiny.yaml").regimes["accuracy"].training.learning_rate == whole.learning_rate
    with pytest.raises(UsageError, match="no regime lenght"):
        variant(tiny, ["lenght"], 1.0, None)


@pytest.mark.needs_layers
@pytest.mark.slow
def test_training_resumes_after_an_interruption(tiny: Protocol, tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    before = Record(ROOT, 7, tiny.hash, 1.0, values={"composite": 0.5, "accuracy": 0.25})
    file.write_text(json.dumps(asdict(before)) + '\n{"algorithm": "gr')
    trained: list[tuple[str, int]] = []
    with Sandbox(SandboxSettings()) as sandbox:
        trainer = Trainer(tiny, 1.0, sandbox, file)
        trainer.train(
            [(ROOT, 7), ("no-std", 7)], 2, lambda record, done, of: trained.append((record.algorithm, record.seed))
        )
        trainer.train([(ROOT, 7), ("no-std", 7)], 2, lambda record, done, of: trained.append(("again", done)))
    assert trained == [("no-std", 7)]
    first, second = read_records(file)
    assert first == before
    assert second.values.keys() == {"composite", "accuracy"}
    assert second.series["composite/reward"] >= 0.0
    assert len(second.curve) == 3
    assert second.training_seconds > 0
    assert second.evaluation_seconds > 0


def made_up(name: str, seed: int, composite: float, length: float, mean_length: float = 10.0) -> Record:
    wiggle = 0.001 * ((seed * 7 + sum(map(ord, name))) % 5)
    return Record(
        name,
        seed,
        "hash",
        1.0,
        values={"composite": composite + seed % 4 + wiggle, "length": length + wiggle},
        details={"length": {"mean_length": mean_length + wiggle}},
        series={"composite/correct_rate": composite, "length/correct_rate": length},
        training_seconds=3.0,
        evaluation_seconds=1.0,
    )


def calibration(**figures: tuple[float, float, float]) -> Calibration:
    records = [
        made_up(name.replace("_", "-"), seed, *own) for name, own in figures.items() for seed in range(1000, 1008)
    ]
    return Calibration.of(records, WEIGHTS, worlds=4)


def test_the_report_recovers_simulated_effects() -> None:
    here = calibration(
        grpo=(0.30, 0.3, 12.0),
        leave_one_out=(0.40, 0.3, 12.0),
        leave_one_out_twin=(0.40, 0.3, 12.0),
        length_gate=(0.30, 0.3, 8.0),
        analytic_variance=(0.55, 0.3, 12.0),
        no_baseline=(0.20, 0.3, 12.0),
        shuffled_advantages=(0.10, 0.1, 12.0),
    )
    text = report(here, {0.5: here})
    lines = text.splitlines()
    order = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert order[2] == "analytic-variance"
    (above,) = [line for line in lines if line.startswith("| composite | value |")]
    assert "leave-one-out" in above
    assert "length-gate" not in above
    (shorter,) = [line for line in lines if line.startswith("| length | mean_length |")]
    assert "length-gate -3.9998" in shorter.split("|")[4]
    (control,) = [line for line in lines if line.startswith("| no-baseline | mildly bad | 5 | 5 |")]
    assert control.endswith("| yes |")
    assert any(line.startswith("- no-baseline − leave-one-out, U: -0.10") for line in lines)
    assert "Rank correlation of U: 1.00 over 6 algorithms" in text
    assert "| 4 seeds | GRPO | 12.0 | 4.0 | 16.0 |" in lines


def test_algorithms_with_missing_or_failed_seeds_are_left_out() -> None:
    records = [made_up(ROOT, seed, 0.3, 0.3) for seed in range(4)]
    records += [made_up("no-std", seed, 0.3, 0.3) for seed in range(3)]
    records += [Record("soft-gate", seed, "hash", 1.0, failure="not finite") for seed in range(4)]
    records += [made_up("soft-gate", seed, 0.3, 0.3) for seed in range(6)]
    here = Calibration.of(records, WEIGHTS, worlds=4)
    assert here.algorithms == [ROOT, "soft-gate"]
    assert here.seeds == [0, 1, 2, 3]


def test_algorithms_with_another_base_policy_are_left_out() -> None:
    def begun(name: str, seed: int, start: float) -> Record:
        return replace(made_up(name, seed, 0.3, 0.3), curve=[{"point": 0, "overall": start}])

    records = [begun(name, seed, 0.1 + seed) for name in (ROOT, "no-std", "soft-gate") for seed in range(3)]
    records += [begun("soft-gate", 3, 3.1), begun(ROOT, 3, 3.1), begun("no-std", 3, 3.2)]
    assert begun_elsewhere(records) == [records[-1]]
    here = Calibration.of(records, WEIGHTS, worlds=4)
    assert here.algorithms == [ROOT, "soft-gate"]
