"""Translate a protocol's settings into Hydra overrides for `python -m verl.trainer.main_ppo`.

Keys are those of verl 0.9.1 (`verl/trainer/config`). The mark `+` adds a key that those files do not have. Every value
that could change a figure is set here, even if verl's default is the same today.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from poise_git.pipeline.backends.verl.settings import VerlSettings

# The names of the candidate's two entry points in verl's registries.
ESTIMATOR_NAME = "poise"
POLICY_LOSS_NAME = "poise"
# verl loads these inside its own processes, by its configuration keys.
REWARD_MODULE = "pkg://poise_git.pipeline.backends.verl.reward"
REWARD_MANAGER = "PoiseRewardManager"
REPLAY_BUFFER_MODULE = "pkg://poise_git.pipeline.backends.verl.worker.sampler"
REPLAY_BUFFER = "PromptReplayBuffer"
CPU_WORKER_EXTENSION = "poise_git.pipeline.backends.verl.worker.cpu_rollout.CpuWorkerExtension"

HF_FOLDER = "huggingface"
# Ray is told that a CPU machine has more cores than it has, because most of verl's actors only wait.
_LOGICAL_CPUS = 16
_RESPONSES_PER_AGENT_WORKER = 256
# The FSDP engine's names for precisions.
_SHORT = {"bfloat16": "bf16", "float32": "fp32"}

Value = bool | int | float | str | None | list[str]


@dataclass(frozen=True)
class Places:
    """Where one training run reads and writes.

    Attributes:
        model: folder of the base policy in Hugging Face format.
        training_data: parquet file that verl reads.
        checkpoints: folder of `global_step_<n>/actor`, for resuming; the last holds `huggingface/` for vLLM.
        hydra: folder of Hydra's own log.
        ray: Ray's folder for sockets and logs, or None for its default (a socket's path has at most 107 bytes).
    """

    model: Path
    training_data: Path
    checkpoints: Path
    hydra: Path
    ray: Path | None = None


def overrides(settings: VerlSettings, places: Places, seed: int) -> list[str]:
    """Hydra override strings for one training run."""
    tree: dict[str, Value] = {
        **_run(settings, places),
        **_data(settings, places, seed),
        **_algorithm(),
        **_actor(settings, seed),
        **_rollout(settings, seed),
        **_reward(settings),
        **(_cpu() if settings.hardware.device == "cpu" else {}),
    }
    return [f"{key}={_render(value)}" for key, value in tree.items()]


def checkpoint_folder(checkpoints: Path, step: int) -> Path:
    """The folder of the model after `step` steps, in Hugging Face format; verl writes it with every checkpoint."""
    return checkpoints / f"global_step_{step}" / "actor" / HF_FOLDER


def _run(settings: VerlSettings, places: Places) -> dict[str, Value]:
    """Length, logging, checkpoints, devices, Ray."""
    steps, hardware = settings.steps, settings.hardware
    ray: dict[str, Value] = {"+ray_kwargs.ray_init._temp_dir": str(places.ray)} if places.ray else {}
    return ray | {
        "trainer.use_v1": True,
        "trainer.v1.trainer_mode": "sync",
        "trainer.v1.sampler.custom_sampler.path": REPLAY_BUFFER_MODULE,
        "trainer.v1.sampler.custom_sampler.name": REPLAY_BUFFER,
        "trainer.device": hardware.device,
        "trainer.nnodes": 1,
        "trainer.n_gpus_per_node": hardware.workers,
        "trainer.project_name": "poise-git",
        "trainer.experiment_name": "candidate",
        "trainer.logger": ["console", "file"],
        # The trainer stops at the first of the two limits, and filtered rows can shorten an epoch.
        "trainer.total_training_steps": steps,
        "trainer.total_epochs": steps,
        # Held-out evaluation happens in another process, after training.
        "trainer.val_before_train": False,
        "trainer.test_freq": -1,
        "trainer.default_local_dir": str(places.checkpoints),
        "trainer.save_freq": settings.training.checkpoint_every or steps,
        # verl removes a checkpoint only after the next one is complete.
        "trainer.max_actor_ckpt_to_keep": 1,
        "trainer.resume_mode": "auto",
        "trainer.balance_batch": True,
        "+ray_kwargs.ray_init.include_dashboard": False,
        "hydra.run.dir": str(places.hydra),
        "hydra.output_subdir": None,
        "hydra.job.chdir": False,
        "actor_rollout_ref.model.path": str(places.model),
    }


def _data(settings: VerlSettings, places: Places, seed: int) -> dict[str, Value]:
    return {
        "data.train_files": str(places.training_data),
        # verl requires a validation file but never uses it here.
        "data.val_files": str(places.training_data),
        "data.val_max_samples": 1,
        "data.train_batch_size": settings.training.prompts,
        "data.max_prompt_length": settings.data.max_prompt_tokens,
        "data.max_response_length": settings.training.max_response_tokens,
        "data.filter_overlong_prompts": True,
        "data.truncation": "error",
        "data.shuffle": True,
        "data.seed": seed,
        # Without workers, a resumed run continues with exactly the same order of rows.
        "data.dataloader_num_workers": 0,
    }


def _algorithm() -> dict[str, Value]:
    return {
        "algorithm.adv_estimator": ESTIMATOR_NAME,
        "actor_rollout_ref.actor.policy_loss.loss_mode": POLICY_LOSS_NAME,
        "algorithm.use_kl_in_reward": False,
        "actor_rollout_ref.actor.use_kl_loss": False,
        "actor_rollout_ref.actor.entropy_coeff": 0,
        "algorithm.rollout_correction.rollout_is": None,
        "algorithm.rollout_correction.rollout_rs": None,
        "algorithm.rollout_correction.bypass_mode": False,
        "critic.enable": False,
    }


def _actor(settings: VerlSettings, seed: int) -> dict[str, Value]:
    training, hardware = settings.training, settings.hardware
    unpadded = hardware.attention == "flash_attention_2"
    actor = "actor_rollout_ref.actor"
    batches: dict[str, Value] = (
        {
            f"{actor}.use_dynamic_bsz": True,
            f"{actor}.ppo_max_token_len_per_gpu": hardware.micro_batch_tokens,
        }
        if unpadded
        # A micro-batch that is filled by tokens could mix long and short sequences, and pad all to the longest.
        else {
            f"{actor}.use_dynamic_bsz": False,
            f"{actor}.ppo_micro_batch_size_per_gpu": settings.micro_batch_sequences,
            "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": settings.micro_batch_sequences,
        }
    )
    return batches | {
        f"{actor}.strategy": "fsdp2",
        f"{actor}.ppo_mini_batch_size": training.minibatch_prompts,
        f"{actor}.ppo_epochs": 1,
        f"{actor}.shuffle": False,
        f"{actor}.data_loader_seed": seed,
        f"{actor}.fsdp_config.seed": seed,
        f"{actor}.loss_agg_mode": training.loss_aggregation,
        # Dr.GRPO's constant (arXiv:2503.20783), which does not depend on the padding of a micro-batch.
        f"{actor}.loss_scale_factor": training.max_response_tokens,
        f"{actor}.calculate_entropy": True,
        f"{actor}.grad_clip": training.gradient_clip,
        f"{actor}.optim.lr": training.learning_rate,
        f"{actor}.optim.lr_scheduler_type": "constant",
        f"{actor}.optim.lr_warmup_steps": training.warmup_steps,
        f"{actor}.optim.weight_decay": training.weight_decay,
        f"+{actor}.fsdp_config.mixed_precision.param_dtype": _SHORT[hardware.precision],
        f"{actor}.fsdp_config.model_dtype": "fp32",
        f"{actor}.fsdp_config.optimizer_offload": hardware.offload in ("optimizer", "all"),
        f"{actor}.fsdp_config.param_offload": hardware.offload == "all",
        f"{actor}.checkpoint.save_contents": ["model", "optimizer", "extra", "hf_model"],
        f"{actor}.checkpoint.load_contents": ["model", "optimizer", "extra"],
        "+actor_rollout_ref.model.override_config.attn_implementation": hardware.attention,
        "actor_rollout_ref.model.use_remove_padding": unpadded,
        "actor_rollout_ref.model.enable_gradient_checkpointing": hardware.device == "cuda",
    }


def _rollout(settings: VerlSettings, seed: int) -> dict[str, Value]:
    training, hardware = settings.training, settings.hardware
    rollout = "actor_rollout_ref.rollout"
    responses = training.prompts * training.group_size
    return {
        f"{rollout}.name": "vllm",
        f"{rollout}.n": training.group_size,
        f"{rollout}.temperature": training.temperature,
        f"{rollout}.top_p": training.top_p,
        f"{rollout}.top_k": -1,
        f"{rollout}.seed": seed,
        # Full determinism would give every response of a group the same seed, and so the same text.
        f"{rollout}.full_determinism": False,
        f"{rollout}.calculate_log_probs": True,
        f"{rollout}.dtype": hardware.precision,
        f"{rollout}.tensor_model_parallel_size": hardware.tensor_parallel,
        f"{rollout}.gpu_memory_utilization": hardware.gpu_memory_utilization,
        f"{rollout}.max_model_len": settings.max_sequence_tokens,
        f"{rollout}.max_num_seqs": hardware.sampling_sequences,
        f"{rollout}.max_num_batched_tokens": max(hardware.sampling_tokens, settings.max_sequence_tokens),
        f"{rollout}.agent.num_workers": min(8, -(-responses // _RESPONSES_PER_AGENT_WORKER)),
    }


def _reward(settings: VerlSettings) -> dict[str, Value]:
    return {
        "reward.num_workers": max(1, min(8, settings.hardware.cpus // 4)),
        "reward.reward_manager.source": "importlib",
        "reward.reward_manager.name": REWARD_MANAGER,
        "reward.reward_manager.module.path": REWARD_MODULE,
        "+reward.reward_kwargs.valid_wrong": settings.reward.valid_wrong,
    }


def _cpu() -> dict[str, Value]:
    """Further overrides for a machine without a GPU: logical resources, no compilation, plain weights."""
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    return {
        "+ray_kwargs.ray_init.num_gpus": 1,
        "ray_kwargs.ray_init.num_cpus": _LOGICAL_CPUS,
        f"{actor}.use_torch_compile": False,
        f"{actor}.fsdp_config.use_torch_compile": False,
        f"{rollout}.load_format": "auto",
        f"{rollout}.enforce_eager": True,
        f"{rollout}.free_cache_engine": False,
        f"+{rollout}.enable_sleep_mode": False,
        f"{rollout}.checkpoint_engine.update_weights_bucket_megabytes": 256,
        f"+{rollout}.engine_kwargs.vllm.worker_extension_cls": CPU_WORKER_EXTENSION,
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
    }


def _render(value: Value) -> str:
    """Write a value in Hydra's override grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{','.join(map(_render, value))}]"
    if isinstance(value, str):
        # In Hydra's quoted strings a backslash stands for itself except before a quote.
        return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value) + "'"
    return repr(value)
