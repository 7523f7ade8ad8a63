"""The overrides, composed by Hydra with the configuration files of the verl that is installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from poise_git.pipeline.backends.verl.configuration import (
    CPU_WORKER_EXTENSION,
    REWARD_MANAGER,
    REWARD_MODULE,
    Places,
    checkpoint_folder,
    overrides,
)
from poise_git.pipeline.backends.verl.settings import parse_settings
from poise_git.pipeline.protocol import Protocol
from tests.pipeline.backends.verl.conftest import changed, shipped

pytestmark = pytest.mark.slow

SEED = 7
AWKWARD = Path("/tmp/it's a=b, {c}/\\d")


@pytest.fixture(scope="module")
def config_folder() -> Path:
    pytest.importorskip("hydra", reason="needs the extra verl or verl-cpu")
    found = find_spec("verl")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the extra verl or verl-cpu")
    return Path(found.submodule_search_locations[0]) / "trainer/config"


@contextmanager
def hydra_in(folder: Path) -> Iterator[None]:
    from hydra import initialize_config_dir

    with initialize_config_dir(str(folder), version_base=None):
        yield


def places(root: Path = Path("/scratch")) -> Places:
    return Places(root / "model", root / "train.parquet", root / "checkpoints", root / "hydra", root / "ray")


def composed(folder: Path, protocol: Protocol, where: Places | None = None) -> Any:
    from hydra import compose

    with hydra_in(folder):
        given = overrides(parse_settings(protocol, protocol.name), where or places(), SEED)
        return compose("ppo_trainer", overrides=given)


def test_the_values_of_the_paper_are_configured(config_folder: Path) -> None:
    config = composed(config_folder, shipped("paper"))
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert (config.algorithm.adv_estimator, actor.policy_loss.loss_mode) == ("poise", "poise")
    assert actor.optim.lr == 1e-6
    assert (config.data.train_batch_size, actor.ppo_mini_batch_size, rollout.n) == (256, 256, 8)
    assert (config.data.max_prompt_length, config.data.max_response_length, rollout.max_model_len) == (1024, 3000, 4024)
    assert (config.trainer.n_gpus_per_node, config.trainer.nnodes, config.trainer.device) == (8, 1, "cuda")
    assert (config.trainer.total_training_steps, config.trainer.save_freq) == (152, 19)
    assert config.trainer.logger == ["console", "file"]
    assert (config.algorithm.use_kl_in_reward, actor.use_kl_loss, actor.entropy_coeff) == (False, False, 0)
    assert "worker_extension_cls" not in rollout.engine_kwargs.vllm


def test_the_reward_manager_gets_its_levels(protocol: Protocol, config_folder: Path) -> None:
    reward = composed(config_folder, protocol).reward
    assert reward.reward_kwargs.valid_wrong == parse_settings(protocol, "x").reward.valid_wrong
    assert reward.reward_manager.source == "importlib"


def test_classes_that_verl_loads_exist() -> None:
    for module, name in (
        (REWARD_MODULE.removeprefix("pkg://"), REWARD_MANAGER),
        CPU_WORKER_EXTENSION.rsplit(".", 1),
    ):
        source = find_spec(module)
        assert source is not None
        assert source.origin is not None
        assert f"class {name}(" in Path(source.origin).read_text()


def test_every_seed_is_the_seed_of_the_run(protocol: Protocol, config_folder: Path) -> None:
    config = composed(config_folder, protocol)
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert [config.data.seed, rollout.seed, actor.data_loader_seed, actor.fsdp_config.seed] == [SEED] * 4
    assert rollout.full_determinism is False, "it gives every response of a group the same seed"


def test_a_cpu_run_gets_its_settings(config_folder: Path) -> None:
    config = composed(config_folder, shipped("cpu-smoke"))
    rollout = config.actor_rollout_ref.rollout
    assert (config.trainer.device, config.trainer.n_gpus_per_node, config.ray_kwargs.ray_init.num_gpus) == ("cpu", 1, 1)
    assert rollout.engine_kwargs.vllm.worker_extension_cls.startswith("poise_git.")
    assert (rollout.dtype, config.actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype) == (
        "float32",
        "fp32",
    )
    assert config.actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu == 32


def test_evaluation_reads_the_files_that_training_writes(protocol: Protocol, config_folder: Path) -> None:
    config = composed(config_folder, protocol)
    checkpoint = config.actor_rollout_ref.actor.checkpoint
    assert "hf_model" in checkpoint.save_contents
    # verl loads the contents that it saves, without a model in Hugging Face format.
    assert checkpoint.load_contents == ["model", "optimizer", "extra"]
    assert config.trainer.default_local_dir == "/scratch/checkpoints"
    assert checkpoint_folder(places().checkpoints, 30) == Path("/scratch/checkpoints/global_step_30/actor/huggingface")


def test_paths_with_special_characters_are_kept(config_folder: Path) -> None:
    config = composed(config_folder, shipped("cpu-smoke"), places(AWKWARD))
    assert config.data.train_files == str(AWKWARD / "train.parquet")
    assert config.trainer.default_local_dir == str(AWKWARD / "checkpoints")


def test_micro_batches_divide_the_batch_of_a_device(config_folder: Path) -> None:
    config = composed(config_folder, shipped("one-gpu"))
    actor = config.actor_rollout_ref.actor
    assert 32 * 8 % actor.ppo_micro_batch_size_per_gpu == 0
    assert actor.ppo_micro_batch_size_per_gpu * 3072 <= 12288
    unpadded = composed(config_folder, changed(shipped("one-gpu"), "settings.hardware.attention", "flash_attention_2"))
    assert unpadded.actor_rollout_ref.actor.use_dynamic_bsz
    assert unpadded.actor_rollout_ref.model.use_remove_padding


# torchvision of another build than torch breaks transformers; nothing here needs it.
VALIDATE = """
import sys
sys.modules.update(dict.fromkeys(("torchvision", "torchaudio", "torchcodec")))
from hydra import compose, initialize_config_dir
from verl.utils.config import omega_conf_to_dataclass, validate_config

with initialize_config_dir(sys.argv[1], version_base=None):
    config = compose("ppo_trainer", overrides=sys.argv[2:])
validate_config(config, use_reference_policy=False, use_critic=False)
rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
print("rollouts", rollout.n, rollout.seed)
"""


def test_verl_accepts_the_configuration(protocol: Protocol, config_folder: Path) -> None:
    settings = parse_settings(protocol, protocol.name)
    # verl only checks that the model exists.
    given = overrides(settings, places(), SEED)
    done = subprocess.run(
        [sys.executable, "-c", VALIDATE, str(config_folder), *given], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"rollouts {settings.training.group_size} {SEED}" in done.stdout
