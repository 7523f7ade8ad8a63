"""Make a tiny but real Qwen2 with a byte-level tokenizer, in Hugging Face format. For child processes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poise_git.pipeline.backends.verl.broken_packages import hide_broken_packages
from poise_git.pipeline.backends.verl.settings import DemonstrationSettings, TinyModelSettings

if TYPE_CHECKING:
    from torch import Tensor

PADDING, START, END = "<pad>", "<|im_start|>", "<|im_end|>"
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The label of prompt tokens and padding, which the loss ignores.
_IGNORED = -100


def make_tiny_model(settings: TinyModelSettings, folder: Path) -> None:
    """Write the model and the tokenizer into `folder`; the weights depend on the settings alone."""
    hide_broken_packages()
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = _tokenizer()
    configuration = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.feedforward,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.positions,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Qwen2ForCausalLM(configuration)
    if settings.demonstrations:
        _teach(model, tokenizer, settings.demonstrations, random.Random(settings.seed))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = (PADDING, START, END)
    # Byte-level pieces without merges, because verl requires this form for the model type qwen2.
    vocabulary = {
        piece: number for number, piece in enumerate((*special, *sorted(pre_tokenizers.ByteLevel.alphabet())))
    }
    bytes_alone = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_alone.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_alone, pad_token=PADDING, eos_token=END, additional_special_tokens=[START]
    )
    tokenizer.chat_template = _CHAT
    return tokenizer


def _teach(model: Any, tokenizer: Any, settings: DemonstrationSettings, rng: random.Random) -> None:
    """Train on demonstrations, with AdamW and a learning rate that falls to 0."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, settings.steps)
    model.train()
    for _ in range(settings.steps):
        tokens, labels = _batch(tokenizer, [demonstration(settings, rng) for _ in range(settings.batch)])
        optimizer.zero_grad()
        model(input_ids=tokens, attention_mask=tokens != tokenizer.pad_token_id, labels=labels).loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def demonstration(settings: DemonstrationSettings, rng: random.Random) -> tuple[str, str]:
    """A question in the form of `SumsGenerator`, and a response that may be wrong or lack the answer's form."""
    one, other = rng.randint(settings.lowest, settings.highest), rng.randint(settings.lowest, settings.highest)
    right = rng.random() < settings.correct
    answer = one + other if right else rng.randint(2 * settings.lowest, 2 * settings.highest)
    valid = rng.random() < settings.valid
    return f"{one}+{other}=", f"\\boxed{{{answer}}}" if valid else str(answer)


def _batch(tokenizer: Any, demonstrations: list[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """Token ids and labels, both (N, T), padded at the end."""
    import torch

    rows, labels = [], []
    for question, response in demonstrations:
        chat = [{"role": "user", "content": question}]
        prompt = tokenizer.encode(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
        answer = [*tokenizer.encode(response), tokenizer.eos_token_id]
        rows.append(torch.tensor(prompt + answer))
        labels.append(torch.tensor([_IGNORED] * len(prompt) + answer))
    pad = torch.nn.utils.rnn.pad_sequence
    return (
        pad(rows, batch_first=True, padding_value=tokenizer.pad_token_id),
        pad(labels, batch_first=True, padding_value=_IGNORED),
    )
