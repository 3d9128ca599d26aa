"""What a few tokens show of a model of others, whatever its config, its class or its tokenizer say."""

import json

import numpy as np
import pytest
import torch
import transformers as tf
from texts import write_documents
from tiny_models import own_tokenizer
from tokenizers import processors

from memlm.cli import main
from memlm.data.prepare import Prepare, prepare
from memlm.errors import UsageError, WorkError
from memlm.pretrained.base import check
from memlm.pretrained.hidden import HiddenReader, views_of
from memlm.pretrained.opening import open_pretrained

V = 300
LLAMA = {
    **{"vocab_size": V, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 0},
}
BERT = {key: LLAMA[key] for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")}
BERT |= {"num_attention_heads": 4, "max_position_embeddings": 40}
ROBERTA = BERT | {"pad_token_id": 1}
MAMBA = {"vocab_size": V, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2}
OPT = {"vocab_size": V, "hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
XLNET = {"vocab_size": V, "d_model": 16, "n_layer": 2, "n_head": 4, "d_inner": 32}
XLM = {"vocab_size": V, "emb_dim": 16, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64, "n_langs": 1}
GEMMA3 = LLAMA | {"head_dim": 8, "sliding_window": 8}
MODELS = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA)),
    "few rows": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA | {"vocab_size": 280})),
    "mamba": lambda: tf.MambaForCausalLM(tf.MambaConfig(**MAMBA)),
    "rwkv": lambda: tf.RwkvForCausalLM(tf.RwkvConfig(**MAMBA | {"context_length": 64})),
    "bert": lambda: tf.BertForMaskedLM(tf.BertConfig(**BERT)),
    "bert lm": lambda: tf.BertLMHeadModel(tf.BertConfig(**BERT)),
    "bert decoder": lambda: tf.BertLMHeadModel(tf.BertConfig(**BERT, is_decoder=True)),
    "bert causal": lambda: tf.BertModel(tf.BertConfig(**BERT, is_decoder=True)),
    "roberta": lambda: tf.RobertaForMaskedLM(tf.RobertaConfig(**ROBERTA)),
    "xlm-roberta": lambda: tf.XLMRobertaModel(tf.XLMRobertaConfig(**ROBERTA)),
    "opt": lambda: tf.OPTForCausalLM(tf.OPTConfig(**OPT, max_position_embeddings=40, word_embed_proj_dim=8)),
    "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=V, n_embd=16, n_layer=2, n_head=4, n_positions=40)),
    "xlnet": lambda: tf.XLNetLMHeadModel(tf.XLNetConfig(**XLNET)),
    "xlm": lambda: tf.XLMWithLMHeadModel(tf.XLMConfig(**XLM, use_lang_emb=False)),
    "gemma3": lambda: tf.Gemma3ForCausalLM(tf.Gemma3TextConfig(**GEMMA3)),
    "wav2vec2": lambda: tf.Wav2Vec2Model(
        tf.Wav2Vec2Config(
            **{"vocab_size": V, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1},
            **{"num_attention_heads": 4, "conv_dim": (8,), "conv_stride": (5,), "conv_kernel": (10,)},
            **{"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2},
        )
    ),
    "mobilebert": lambda: tf.MobileBertModel(
        tf.MobileBertConfig(**BERT, embedding_size=16, intra_bottleneck_size=16, num_feedforward_networks=1)
    ),
    "ibert": lambda: tf.IBertModel(tf.IBertConfig(**ROBERTA)),
    "clip vision": lambda: tf.CLIPVisionModel(
        tf.CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4)
    ),
    "fnet": lambda: tf.FNetModel(
        tf.FNetConfig(vocab_size=V, hidden_size=16, num_hidden_layers=2, intermediate_size=32)
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A name -> a saved model with random weights of ordinary size; made once."""
    place, found = tmp_path_factory.mktemp("models"), {}

    def make(name: str, template: str | None = None):
        if (name, template) not in found:
            torch.manual_seed(0)
            folder = place / f"{name} {len(found)}"
            model = MODELS[name]()
            with torch.no_grad():
                for weight in model.parameters():
                    if weight.ndim == 2:
                        weight.normal_(std=0.3)
            model.save_pretrained(folder)
            tokenizer = own_tokenizer().from_str(own_tokenizer().to_str())
            if template:
                tokens = [("<|begin|>", 1), ("<|end|>", 2)]
                tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=tokens)
            named = {"bos_token": "<|begin|>", "eos_token": "<|endoftext|>"}
            tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)
            found[name, template] = folder
        return str(found[name, template])

    return make


@pytest.mark.parametrize(
    ("name", "kind"),
    [("llama", "causal"), ("mamba", "causal"), ("bert", "masked"), ("bert lm", "masked"), ("bert decoder", "causal"),
     ("bert causal", "causal"), ("roberta", "masked"), ("xlnet", "encoder"), ("xlm", "masked"), ("opt", "causal")],
)  # fmt: skip
def test_the_kind_follows_what_the_states_depend_on(name, kind, made):
    opened = open_pretrained(made(name))
    assert opened.kind == kind
    ids = torch.tensor([[7, 8, 9, 10], [7, 8, 9, 11]])
    one, other = opened.model(ids).last_hidden_state[:, :-1]
    assert torch.allclose(one, other) == (kind == "causal")
    if kind != "causal":
        with pytest.raises(UsageError, match="no causal language model"):
            open_pretrained(made(name), head=True)


@pytest.mark.parametrize("name", ["mamba", "rwkv", "llama", "bert", "gpt2", "gemma3"])
def test_layer_0_is_the_embedding_or_refused(name, made):
    """The embedding of a place depends on nothing but its token and its place."""
    opened = open_pretrained(made(name))
    if name in ("mamba", "rwkv"):
        for layer in (0, 1, -2):
            with pytest.raises(UsageError, match="its layer 0 is no embedding"):
                views_of(opened, (layer,), ())
        assert [view.layer for view in views_of(opened, (-1,), ())] == [opened.layers]
        return
    reader = HiddenReader(opened, views_of(opened, (0,), ("last",)))
    one, other = reader.read([[7, 8, 9], [9, 7, 9]])[0]
    assert torch.allclose(one, other)


@pytest.mark.parametrize(
    ("name", "most"), [("roberta", 38), ("xlm-roberta", 38), ("ibert", 38), ("opt", 40), ("gpt2", 40), ("bert", 40)]
)
def test_reserved_positions_are_not_counted(name, most, made):
    opened = open_pretrained(made(name))
    assert opened.most_tokens == most
    reader = HiddenReader(opened, views_of(opened, (), ()))
    assert reader.read([[7] * most, [8]])[0].isfinite().all()
    with pytest.raises(UsageError, match=f"cannot read {most + 1} tokens"):
        reader.read([[7] * (most + 1)])


def test_a_limit_that_is_no_number_of_tokens_is_none(made):
    opened = open_pretrained(made("xlnet"))
    assert opened.model.config.max_position_embeddings == -1
    assert opened.most_tokens > 100_000


@pytest.mark.parametrize("template", ["$A <|end|>", "<|begin|> $A <|end|>", "<|begin|> $A"])
def test_special_tokens_stand_where_the_tokenizer_puts_them(template, made, tmp_path):
    folder = made("llama", template)
    source = write_documents(tmp_path / "documents", count=3)
    own = prepare(Prepare(source=str(source), out=tmp_path / "data", tokenizer=folder))
    opened = open_pretrained(folder)
    reader = HiddenReader(opened, views_of(opened, (), ()), own.tokenizer)
    tokens = own.chunks("test", 9, limit=4).tokens
    assert reader.shares_ids
    asked = [own.tokenizer.decode(row) for row in tokens.tolist()]
    specials = {"<|begin|>": 1, "<|end|>": 2}
    before, after = ([specials[mark] for mark in part.split()] for part in template.split("$A"))
    assert reader.ids(tokens) == ([[*before, *(row - 2).tolist(), *after] for row in tokens], 0)
    whole = [opened.tokenizer(text)["input_ids"] for text in asked]
    assert all(row[0] == before[0] for row in whole if before)
    assert all(row[-1] == after[0] for row in whole if after)


def test_a_text_cut_to_its_limit_keeps_its_special_tokens(made, tmp_path):
    folder = made("gpt2", "<|begin|> $A <|end|>")
    source = write_documents(tmp_path / "documents", count=3)
    own = prepare(Prepare(source=str(source), out=tmp_path / "data", tokenizer=folder))
    opened = open_pretrained(folder)
    reader = HiddenReader(opened, views_of(opened, (), ()), own.tokenizer)
    rows, cut = reader.ids(own.chunks("test", 60, limit=2).tokens)
    assert cut == 2
    assert all(len(row) == 40 and (row[0], row[-1]) == (1, 2) for row in rows)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("few rows", "ids up to 28. and its embedding 280 rows"),
        ("wav2vec2", "reads no text"),
        ("clip vision", "reads no text"),
    ],
)
def test_what_reads_no_text_is_refused_when_it_is_opened(name, said, made):
    with pytest.raises(UsageError, match=said):
        open_pretrained(made(name))


@pytest.mark.parametrize("name", ["fnet", "mobilebert", "bert", "llama"])
def test_what_stands_beside_a_text_changes_nothing(name, made):
    opened = open_pretrained(made(name))
    assert opened.padded == (name in ("bert", "llama"))
    reader, rows = HiddenReader(opened, views_of(opened, (), ())), [[7, 8, 9, 10, 11], [12, 13], [20] * 9, [14, 15]]
    together, alone = reader.read(rows)[0], torch.cat([reader.read([row])[0] for row in rows])
    assert torch.allclose(together, alone, rtol=1e-3, atol=1e-4)


def test_states_that_are_no_numbers_are_told_of_the_model_and_not_of_the_probe(made):
    opened = open_pretrained(made("llama"))
    with torch.no_grad():
        opened.model.layers[1].mlp.down_proj.weight[3, 5] = np.nan
    with pytest.raises(UsageError, match="hidden states that are no numbers"):
        HiddenReader(opened, views_of(opened, (), ())).dims  # noqa: B018
    headed = open_pretrained(made("llama"), head=True).model
    with torch.no_grad():
        headed.model.layers[1].mlp.down_proj.weight[3, 5] = np.nan
    with pytest.raises(UsageError, match="logits that are no numbers"):
        check(headed, "llama")


def test_a_window_is_seen_where_memories_and_text_are_longer(made):
    lm = open_pretrained(made("gemma3"), head=True).model
    check(lm, "gemma3", tokens=8)
    with pytest.raises(UsageError, match="does not look back over all of the 24 tokens"):
        check(lm, "gemma3", tokens=24)


@pytest.mark.parametrize(("option", "word"), [("--cram", "crammed"), ("--invert", "inverted")])
def test_what_has_no_cache_is_told_before_anything_is_measured(option, word, made, data, tmp_path, capsys):
    out = tmp_path / "out"
    call = ["measure", made("mamba"), "--data", str(data), "--out", str(out), option, "2", "--chunk-tokens", "8"]
    assert main(call) == 2
    err = capsys.readouterr().err
    assert f"cannot be {word}" in err
    assert not out.exists()


def test_a_gguf_file_without_weights_is_refused(tmp_path, monkeypatch):
    import gguf

    monkeypatch.setenv("MEMLM_CACHE", str(tmp_path / "cache"))
    writer = gguf.GGUFWriter(str(tmp_path / "vocab.gguf"), "llama")
    writer.add_context_length(256)
    for write in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{write}_to_file")()
    writer.close()
    with pytest.raises(UsageError, match="holds no weights"):
        open_pretrained(str(tmp_path / "vocab.gguf"))


def test_what_was_measured_is_kept_where_cramming_fails_in_the_end(made, data, tmp_path, monkeypatch, capsys):
    def fails(*_: object) -> None:
        raise WorkError("cramming left the numbers.")

    monkeypatch.setattr("memlm.measure.run.ceilings", fails)
    call = ["measure", made("llama"), "--data", str(data), "--out", str(tmp_path / "out"), "--cram", "2"]
    few = ["--probe.steps", "1", "--probe.train-chunks", "20", "--chunks", "4", "--chunk-tokens", "8", "--no-controls"]
    assert main([*call, *few]) == 1
    assert "all was measured but for" in capsys.readouterr().err
    kept = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert {row["model"] for row in kept["results"]} > {"no memory"}
    assert kept["ceilings_failed"] == ["cramming left the numbers."]
