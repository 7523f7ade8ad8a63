"""The template's `recipe/` copied elsewhere works with verl alone: poise-git cannot be imported here."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from poise_git.package_data import template_files
from poise_git.pipeline.backends.verl.versions import VERSIONS, VLLM_VERSION

# Hide poise-git, which a user's machine lacks, and a torchvision that does not fit torch and is not needed here.
PRELUDE = """
import sys
sys.modules.update(dict.fromkeys(("poise_git", "torchvision", "torchaudio", "torchcodec")))
"""

COMPOSED = """
from hydra import compose, initialize_config_dir
with initialize_config_dir(sys.argv[1], version_base=None):
    config = compose("poise_trainer", overrides=sys.argv[2:])
from verl.utils.config import validate_config
validate_config(config, use_reference_policy=False, use_critic=False)
actor = config.actor_rollout_ref.actor
print(config.algorithm.adv_estimator, actor.policy_loss.loss_mode, config.actor_rollout_ref.model.external_lib)
print(config.actor_rollout_ref.rollout.n, actor.optim.lr, config.data.train_batch_size, config.data.train_files)
"""

REGISTERED = """
import torch
from verl.trainer.ppo.core_algos import get_adv_estimator_fn, get_policy_loss_fn
import poise_registration
rewards, mask = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.ones(2, 2)
estimator, loss = get_adv_estimator_fn("poise"), get_policy_loss_fn("poise")
advantages, _ = estimator(token_level_rewards=rewards, response_mask=mask, index=["a", "a"], config=None)
print(sys.argv[1:], advantages.tolist(), loss(mask, mask, advantages, mask)[0].item())
import recipe
print(estimator.__module__, list(recipe.__path__))
"""

REWARDED = """
from poise_reward import compute_score
for text in (r"so \\boxed{\\frac12}", r"\\boxed{3}", r"\\boxed{1} \\boxed{2}", r"\\boxed{\\frac12", "1/2"):
    found = compute_score("math", text, r"\\frac{1}{2}")
    print(found["score"], found["valid"], found["correct"])
"""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe as `recipe/poise` of a verl checkout, with a space in the path."""
    folder: Path = tmp_path_factory.mktemp("a checkout") / "recipe" / "poise"
    for path, text in template_files().items():
        if path.startswith("recipe/"):
            file = folder / path.removeprefix("recipe/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return folder


def run(copied: Path, script: str, *arguments: str, path: Path | None = None) -> str:
    """Run `script` in the root of the checkout, two levels above the copied folder."""
    environment = {**os.environ, "PYTHONPATH": str(path or copied)}
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, *arguments],
        env=environment,
        cwd=copied.parents[1],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def _verl() -> None:
    if find_spec("verl") is None:
        pytest.skip("needs the extra verl or verl-cpu")


@pytest.mark.slow
@pytest.mark.usefixtures("_verl")
def test_the_script_composes_a_configuration_that_verl_accepts(copied: Path, tmp_path: Path) -> None:
    # A replacement of python that records the command of the script.
    recorder = tmp_path / "python"
    recorder.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$RECORD"\nprintf "%s\\n" "$PYTHONPATH" > "$RECORD.path"\n')
    recorder.chmod(0o755)
    record = tmp_path / "record"
    environment = {
        **os.environ,
        "PYTHON": str(recorder),
        "RECORD": str(record),
        "MODEL": "Qwen/Qwen2.5-Math-1.5B",
        "TRAIN": "/data/a set/train.parquet",
    }
    subprocess.run(["bash", str(copied / "run_poise.sh"), "actor_rollout_ref.rollout.n=4"], env=environment, check=True)
    main, *overrides = record.read_text().splitlines()
    assert Path(main) == copied / "main_poise.py"
    assert Path(f"{record}.path").read_text().startswith(str(copied))
    printed = run(copied, COMPOSED, str(copied / "config"), *overrides)
    assert "poise poise poise_registration" in printed
    assert "4 1e-06 256 /data/a set/train.parquet" in printed


@pytest.mark.slow
@pytest.mark.usefixtures("_verl")
def test_the_algorithm_is_registered_and_called(copied: Path) -> None:
    printed = run(copied, REGISTERED)
    assert "0.7071" in printed
    # Not the top-level package `recipe` of TransferQueue's wheel, nor the checkout's folder of that name.
    assert "poise_recipe.algorithm" in printed


@pytest.mark.slow
@pytest.mark.usefixtures("_verl")
def test_the_reward_has_three_levels(copied: Path) -> None:
    assert run(copied, REWARDED).splitlines()[-5:] == [
        "1.0 1.0 1.0",
        "0.1 1.0 0.0",
        "0.0 0.0 0.0",
        "0.0 0.0 0.0",
        "0.0 0.0 0.0",
    ]


def test_the_script_is_valid_and_reports_missing_packages(copied: Path) -> None:
    script = str(copied / "run_poise.sh")
    subprocess.run(["bash", "-n", script], check=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("MODEL", "TRAIN")}
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "set MODEL" in done.stderr


def test_no_file_of_the_recipe_requires_poise_git(copied: Path) -> None:
    for file in copied.rglob("*.py"):
        assert "poise_git" not in file.read_text(), file.name


def test_the_recipe_names_the_verl_version_that_is_tested(copied: Path) -> None:
    required = (copied / "REQUIRED_VERL.txt").read_text()
    assert f"verl=={VERSIONS['verl']} vllm=={VLLM_VERSION} TransferQueue=={VERSIONS['TransferQueue']}" in required
    assert f"VERSION={VERSIONS['verl']}" in required
