"""Tiny models of others in the layouts of the hub: causal, masked, encoder and sentence-transformers."""

import json
from pathlib import Path

import torch
from texts import TEXT
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

KINDS = ("causal", "masked", "encoder", "sentence")
WIDTH, LAYERS = 32, 2
_SHAPE = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 48}


def save_foreign(kind: str, folder: Path, *, most: int = 128) -> Path:
    """A model with random weights of ordinary size; the causal one's tokenizer has no padding."""
    causal = kind == "causal"
    tokenizer = _tokenizer(causal)
    size = tokenizer.get_vocab_size()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if causal:
            model = LlamaForCausalLM(LlamaConfig(vocab_size=size, num_key_value_heads=2, **_SHAPE))
        else:
            config = BertConfig(vocab_size=size, max_position_embeddings=most, **_SHAPE)
            model = BertForMaskedLM(config) if kind == "masked" else BertModel(config)
        with torch.no_grad():
            for p in model.parameters():
                if p.ndim == 2:
                    p.normal_(std=0.2)
    model.save_pretrained(folder)
    special = {"eos_token": "<e>"} if causal else {"pad_token": "<p>", "cls_token": "<c>", "sep_token": "<e>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    if kind == "sentence":
        _pool(folder)
    return folder


def _tokenizer(causal: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=["<e>", "<p>", "<c>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    if not causal:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<c> $A <e>", special_tokens=[("<c>", 2), ("<e>", 0)]
        )
    return tokenizer


def _pool(folder: Path) -> None:
    """What makes a sentence-transformers model of an encoder: the mean of all tokens, of length 1."""
    names = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(names)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 100, "do_lower_case": False}))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
