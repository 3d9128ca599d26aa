"""Tiny causal language models of several families, with a tokenizer, for the tests of what takes models of others."""

from functools import lru_cache
from pathlib import Path

import torch
from texts import TEXT
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

W, LAYERS, V = 16, 3, 300  # V: the model's table has more rows than its tokenizer has tokens, as many have
SPECIAL = {"vocab_size": V, "bos_token_id": 1, "eos_token_id": 0}
_LLAMA = {"hidden_size": W, "intermediate_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
_GROUPED = {**_LLAMA, "num_key_value_heads": 2}
FAMILIES = {
    "llama": LlamaConfig(**_GROUPED, **SPECIAL, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**_GROUPED, **SPECIAL),
    "gpt_neox": GPTNeoXConfig(**_LLAMA, **SPECIAL),
    "gpt2": GPT2Config(n_embd=W, n_layer=LAYERS, n_head=4, n_positions=64, **SPECIAL),  # learned absolute positions
}


@lru_cache(maxsize=1)
def own_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|begin|>", "<|end|>"]  # one is called as one of ours
    tokenizer.train_from_iterator(
        [TEXT],
        trainers.BpeTrainer(vocab_size=290, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    return tokenizer


def save_tiny(family: str, folder: Path, seed: int = 0) -> Path:
    """A model with weights of ordinary size, saved as those of the hub are."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(FAMILIES[family])
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 2:
                p.normal_(std=0.3)
            elif name.endswith("bias"):
                p.normal_(std=0.1)
    model.save_pretrained(folder)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=own_tokenizer(), bos_token="<|begin|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    wrapped.save_pretrained(folder)
    return folder
