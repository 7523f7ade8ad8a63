#!/usr/bin/env bash
# Train MODEL on the parquet file TRAIN with this recipe. Further arguments are Hydra overrides.
#   MODEL=Qwen/Qwen2.5-Math-1.5B TRAIN=train.parquet bash run_poise.sh trainer.n_gpus_per_node=8
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${MODEL:?set MODEL to a model of the hub or a folder in Hugging Face format}"
: "${TRAIN:?set TRAIN to a parquet file with prompts that ask for a \\boxed{} answer}"
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"

# verl requires a validation file but does not use it here: held-out evaluation belongs in another process.
exec "${PYTHON:-python3}" "$here/main_poise.py" \
  "+ray_kwargs.ray_init.runtime_env.env_vars.PYTHONPATH='$PYTHONPATH'" \
  "data.train_files='$TRAIN'" "data.val_files='${VALIDATION:-$TRAIN}'" \
  trainer.val_before_train=False trainer.test_freq=-1 \
  data.train_batch_size=256 data.max_prompt_length=1024 data.max_response_length=3000 \
  data.filter_overlong_prompts=True data.seed=0 \
  "actor_rollout_ref.model.path='$MODEL'" \
  +actor_rollout_ref.model.override_config.attn_implementation=sdpa actor_rollout_ref.model.use_remove_padding=False \
  actor_rollout_ref.actor.strategy=fsdp2 actor_rollout_ref.actor.optim.lr=1e-6 \
  actor_rollout_ref.actor.ppo_mini_batch_size=256 actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4 \
  actor_rollout_ref.rollout.name=vllm actor_rollout_ref.rollout.n=8 actor_rollout_ref.rollout.temperature=1.0 \
  actor_rollout_ref.rollout.tensor_model_parallel_size=1 actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=4 \
  trainer.project_name=poise trainer.experiment_name=poise trainer.total_epochs=8 trainer.save_freq=20 \
  "$@"
