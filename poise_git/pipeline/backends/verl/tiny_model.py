"""A Qwen2 with random weights and a byte-level tokenizer, in Hugging Face format: a real model of no size."""

from __future__ import annotations

from pathlib import Path

from poise_git.pipeline.backends.verl.broken_packages import hide_broken_packages
from poise_git.pipeline.backends.verl.settings import TinyModelSettings

PADDING, START, END = "<pad>", "<|im_start|>", "<|im_end|>"
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tiny_model(settings: TinyModelSettings, folder: Path) -> None:
    """Write model and tokenizer into `folder`; the weights depend on the settings alone. For child processes."""
    hide_broken_packages()
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    special = (PADDING, START, END)
    # Byte-level pieces without merges: verl insists on that form for the model type qwen2.
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
    configuration = Qwen2Config(
        vocab_size=len(vocabulary),
        hidden_size=settings.width,
        intermediate_size=settings.feedforward,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.positions,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[PADDING],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Qwen2ForCausalLM(configuration)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
