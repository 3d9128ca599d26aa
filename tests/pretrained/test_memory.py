"""A language model of others as decoder: unchanged without memories, and with them all that a memory model is."""

from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from pairwise import pairwise
from tiny_models import FAMILIES, LAYERS, V, W, own_tokenizer, save_tiny
from transformers import AutoModel, AutoModelForCausalLM

from memlm.decoding.cached import Prompt
from memlm.errors import UsageError
from memlm.loading import build_model, load_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.nn.config import StackConfig
from memlm.nn.vocabulary import END, PAD
from memlm.pretrained.memory import PretrainedMemory
from memlm.pretrained.shapes import BaseConfig, BaseEncoderShape, PretrainedShape, SoftTokens
from memlm.pretrained.transplant import SHIFT
from memlm.readers.config import VectorReader
from memlm.readers.placing import hiding

T, M, KNOWN = 4, 12, own_tokenizer().get_vocab_size() + SHIFT
SLOTS = EncoderShape(
    chunk_tokens=T, memory_dim=M, stack=StackConfig(kind="pointwise", width=8, layers=0), readout="slots"
)
SOFT, LORA = SoftTokens(width=6, hidden=10), BaseConfig(lora_rank=2)
ITSELF = BaseEncoderShape(chunk_tokens=T, memory_dim=M, layer=2, readout="mean")
SHAPES = {
    "slots": PretrainedShape(encoder=SLOTS, reader=SOFT, decoder=LORA),
    "vector": PretrainedShape(encoder=SLOTS, reader=VectorReader(vectors=2), positions="variable", decoder=LORA),
    "itself": PretrainedShape(encoder=ITSELF, reader=VectorReader(), decoder=LORA),
    "whole": PretrainedShape(encoder=SLOTS, reader=SOFT, decoder=BaseConfig(lora_rank=0, trained=True)),
}


def over(kind: str, base: Path, **changes) -> PretrainedShape:
    shape = SHAPES[kind]
    return replace(shape, decoder=replace(shape.decoder, name=str(base)), **changes)


ADAPTED = ["slots", "vector", "itself"]  # whose base stays as it was
every_family = pytest.mark.parametrize("family", FAMILIES)
every_shape = pytest.mark.parametrize("kind", SHAPES)


@lru_cache
def folder(family: str) -> Path:
    return save_tiny(family, Path(mkdtemp()) / family)


@lru_cache
def theirs(family: str):
    return AutoModelForCausalLM.from_pretrained(folder(family)).eval()


def build(family: str = "llama", kind: str = "slots", seed: int = 0, **changes) -> PretrainedMemory:
    """All that is not the base has weights of ordinary size, so that every connection has an effect."""
    model, generator = (
        build_model(over(kind, folder(family), **changes), KNOWN, seed).eval(),
        torch.Generator().manual_seed(seed),
    )
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not name.startswith("decoder.") or "lora_" in name:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model


@lru_cache
def _built(family: str, kind: str) -> PretrainedMemory:
    return build(family, kind)


def shared(family: str, kind: str = "slots") -> PretrainedMemory:
    """`build`'s, made once for all tests that only read it (and set its form)."""
    model = _built(family, kind)
    model.form = PretrainedMemory.form
    return model


def ids(rows: int, tokens: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(5, KNOWN, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def own(x: torch.Tensor) -> torch.Tensor:
    """As the base reads a text: after what begins one."""
    return torch.cat([torch.ones_like(x[:, :1]), x[:, :-1] - SHIFT], 1)


@pytest.mark.parametrize(("family", "kind", "tokens_less"), pairwise(list(FAMILIES), list(SHAPES), [0, 1]))
def test_without_memories_the_base_is_unchanged_to_the_bit(family, kind, tokens_less):
    model, x = shared(family, kind), ids(2, T - tokens_less)
    with torch.inference_mode():
        logits, base = model(x).logits, theirs(family)(own(x)).logits
    assert torch.equal(logits[..., SHIFT + 1 :], base[..., 1 : KNOWN - SHIFT])
    assert torch.equal(logits[..., END], base[..., 0])  # what ends a text
    assert (logits.softmax(-1)[..., [PAD, SHIFT]] == 0).all()


@every_family
def test_a_text_that_reads_no_memory_is_read_without_the_adapter(family):
    model, x = build(family), ids(2, 3 * T)
    logits = model(x, read=False).logits
    for c in range(3):
        alone = model(x[:, c * T : (c + 1) * T]).logits
        if family != "gpt2":  # whose positions are learnt: the text stands where it stood
            torch.testing.assert_close(logits[:, c * T : (c + 1) * T], alone, rtol=1e-3, atol=1e-3)
    model.adapter.serves = "always"
    assert not torch.allclose(model(x, read=False).logits, logits)
    model.adapter.serves = "never"
    assert torch.equal(model(x, read=False).logits, logits)
    read = model(x).logits
    model.adapter.serves = "reading"
    assert torch.equal(model(x).logits[:, :T], read[:, :T])
    assert not torch.allclose(model(x).logits[:, T:], read[:, T:])


@every_family
@every_shape
def test_the_base_by_itself_is_theirs_over_the_whole_text(family, kind):
    """Of no chunks, with neither memories nor adapter, whatever the adapter serves else."""
    model, x = shared(family, kind), ids(2, 5 * T - 1)
    with torch.inference_mode():
        logits, base = model.base_logits(x), theirs(family)(own(x)).logits
        padded = torch.cat([x, torch.full((2, 3), PAD)], 1)
        torch.testing.assert_close(model.base_logits(padded)[:, : x.shape[1]], logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits[..., SHIFT + 1 :], base[..., 1 : KNOWN - SHIFT], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits[..., END], base[..., 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("family", "kind", "form"), pairwise(list(FAMILIES), list(SHAPES), ["packed", "folded"]))
def test_a_hidden_memory_is_as_if_it_were_not_there(family, kind, form):
    model, x = shared(family, kind), ids(2, 3 * T)
    model.form = form
    memories, foreign = (model.encode_chunks(z.unflatten(1, (3, T))[:, :-1]) for z in (x, ids(2, 3 * T, seed=9)))
    with hiding(model, 1):
        hidden = model(x, own_memories=memories).logits
        other = model(x, own_memories=torch.stack([memories[:, 0], foreign[:, 1]], 1)).logits
    assert (hidden - model(x).logits)[:, 2 * T :].abs().amax(-1).min() > 0
    torch.testing.assert_close(other, hidden, rtol=1e-4, atol=1e-4)
    with hiding(model, 0):  # of two chunks it is the only one: the base reads the second as it always did
        only = model(x[:, : 2 * T]).logits
    torch.testing.assert_close(only, model(x[:, : 2 * T], read=False).logits, rtol=1e-3, atol=1e-3)


def test_the_base_by_itself_has_the_base_s_room():
    model = shared("gpt2")
    assert model.base_positions == 64
    assert model.base_logits(ids(1, 64)).shape == (1, 64, KNOWN)
    with pytest.raises(UsageError, match="64 positions, too few for 65 tokens"):
        model.base_logits(ids(1, 65))


def one_after_the_other(model: PretrainedMemory, x: torch.Tensor, family: str, marks=None, memories=None):
    """The truth: the base's own forward pass over soft tokens, start and tokens, chunk by chunk, masking nothing."""
    lm, out = model.base.lm, []
    known = [] if memories is None else list(memories.unbind(1))
    S = model.reader.vectors
    for c in range(-(-x.shape[1] // T)):
        chunk = x[:, c * T : (c + 1) * T]
        start = (
            model.start(marks[:, c : c + 1].long())
            if marks is not None
            else model.start.weight[:1].expand(len(x), 1, -1)
        )
        tokens = torch.cat([start + bool(known) * model.go_on, model.embed(chunk[:, :-1])], 1)
        soft = model.reader.entries(torch.stack(known, 1)).flatten(1, 2) if known else tokens[:, :0]
        if model.placing.scheme == "variable" or T == S:
            positions = torch.arange(soft.shape[1] + tokens.shape[1])
        else:
            shares = [(s + 1) * T // S - 1 for s in range(S)]
            positions = torch.tensor([k * T + s for k in range(len(known)) for s in shares])
            positions = torch.cat([positions, len(known) * T + torch.arange(tokens.shape[1])]).long()
        with model.adapter.gated(float(bool(known))):
            mask = torch.ones(len(x), len(positions))
            hidden = lm(inputs_embeds=torch.cat([soft, tokens], 1), position_ids=positions[None], attention_mask=mask)
        out.append(model.base.ours(hidden.logits[:, soft.shape[1] :]))
        known.append(model.encode(chunk))
    return torch.cat(out, 1)


@pytest.mark.parametrize(("family", "kind", "tokens"), pairwise(list(FAMILIES), ADAPTED, [3 * T + 1, T, 3 * T, 2]))
def test_both_forms_are_the_loop_over_chunks(family, kind, tokens):
    model, x = shared(family, kind), ids(2, tokens)
    marks = torch.rand(2, -(-tokens // T), generator=torch.Generator().manual_seed(1)) < 0.5
    before = torch.randn(2, 2, M, generator=torch.Generator().manual_seed(2))
    for given in ({"marks": marks}, {"memories": before}):
        truth = one_after_the_other(model, x, family, **given)
        for model.form in ("packed", "folded"):
            torch.testing.assert_close(model(x, **given).logits, truth, rtol=1e-3, atol=2e-3)


@every_family
@every_shape
def test_the_future_and_padding_change_nothing(family, kind):
    model, x = shared(family, kind), ids(2, 3 * T - 1)
    padded = torch.nn.functional.pad(x, (0, 1))
    for model.form in ("packed", "folded"):
        before = model(x).logits
        torch.testing.assert_close(model(padded).logits[:, : x.shape[1]], before, rtol=1e-4, atol=1e-4)
        for n in (0, T - 1, T, 2 * T + 1):
            changed = x.clone()
            changed[:, n] = 5 + (changed[:, n] + 1) % (KNOWN - 5)
            torch.testing.assert_close(model(changed).logits[:, : n + 1], before[:, : n + 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "kind", "given"),
    pairwise(list(FAMILIES), ADAPTED, [("memories", "marks"), (), ("memories",), ("marks",)]),
)
def test_cached_generation_is_the_uncached_one_token_by_token(family, kind, given):
    model = shared(family, kind)
    prompts = torch.nn.functional.pad(ids(3, 2 * T + 1), (0, 1))
    prompts[1, T - 1 :] = PAD
    prompts[2, 2:] = PAD
    memories = torch.randn(3, 2, M, generator=torch.Generator().manual_seed(3))
    marks = torch.tensor([[False, True, False], [True, False, True], [False, False, True]])
    told = {name: value for name, value in (("memories", memories), ("marks", marks)) if name in given}
    asked = {"max_new_tokens": 2 * T + 1, "eos_token_id": None, **told}
    assert torch.equal(model.generate(prompts, **asked), model.generate(prompts, use_cache=False, **asked))
    alone = model.generate(prompts[1:2, : T - 1], max_new_tokens=T, eos_token_id=None, memories=memories[1:2])
    together = model.generate(prompts, max_new_tokens=T, eos_token_id=None, memories=memories)
    assert torch.equal(alone[0, T - 1 :], together[1, prompts.shape[1] :])


@every_family
def test_without_memories_and_in_one_chunk_the_base_generates_as_it_always_did(family):
    encoder = replace(SLOTS, chunk_tokens=16)
    model, x = build(family, encoder=encoder), ids(2, 5)
    wide = torch.cat([torch.ones(2, 1, dtype=torch.long), x - SHIFT], 1)
    strange = list(range(KNOWN - SHIFT, V))  # rows of its table that are no tokens
    asked = {"max_new_tokens": 10, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    base = theirs(family).generate(wide, suppress_tokens=strange, **asked)
    ours = model.generate(x, max_new_tokens=10, eos_token_id=None)
    said = base[:, 6:] + SHIFT
    assert torch.equal(ours[:, 5:], torch.where(said == SHIFT, END, said))


@every_family
def test_cache_bytes_are_those_that_are_kept(family):
    heads = getattr(FAMILIES[family], "num_key_value_heads", 4)
    for kind, kept in (("slots", T), ("vector", 2)):
        model = shared(family, kind)
        assert model.decoder.entry_bytes == LAYERS * 2 * heads * (W // 4) * 4
        for tokens, memories in ((0, 0), (2 * T + 1, 0), (T, 3)):
            given = torch.randn(1, memories, M) if memories else None
            decoding = model.decoding(Prompt(ids(1, tokens), [tokens], given))
            entries = kept * (memories + tokens // T) + T
            assert decoding.nbytes == model.cache_bytes(tokens, memories) == entries * model.decoder.entry_bytes


@every_shape
def test_every_weight_that_is_trained_learns_and_the_base_stays(kind):
    model, x = build("qwen2", kind).train(), ids(2, 3 * T)
    x = torch.nn.functional.pad(x[:, :-1], (0, 1))  # a blank
    marks = torch.tensor([[False, True, True]] * 2)
    model(x, labels=x.where(x != PAD, -100), marks=marks).loss.backward()
    named = dict(model.named_parameters())
    trained = {name for name, p in named.items() if p.requires_grad}
    base = {name for name in named if name.startswith("decoder.") and "lora_" not in name}
    assert trained == (set(named) if kind == "whole" else set(named) - base)
    assert {name for name in trained if named[name].grad is None} == set()


@pytest.mark.parametrize(
    ("family", "kind"), [*product(FAMILIES, ["slots", "whole"]), ("llama", "vector"), ("gpt2", "itself")]
)
def test_saved_apart_and_put_together_again(family, kind, tmp_path):
    model, x = build(family, kind), ids(2, 3 * T)
    model.save_pretrained(tmp_path)
    held = model.state_dict()
    base = [name for name in held if name.startswith("decoder.") and "lora_" not in name]
    assert bool(base) == (kind == "whole")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists() == (kind != "whole")
    with torch.inference_mode():
        logits = model(x).logits
        for again in (AutoModel.from_pretrained(tmp_path), load_model(tmp_path)):
            assert torch.equal(again(x).logits, logits)
            assert again.fingerprint() == model.fingerprint()
            assert again.encoder.fingerprint() == model.encoder.fingerprint()


def test_the_saved_adapter_is_one_of_peft(tmp_path):
    from peft import PeftModel

    model, x = build(), ids(1, T)
    model.save_pretrained(tmp_path)
    wrapped = PeftModel.from_pretrained(deepcopy(theirs("llama")), str(tmp_path / "adapter")).eval()
    model.adapter.serves = "always"
    torch.testing.assert_close(
        wrapped(own(x)).logits[..., 1 : KNOWN - SHIFT], model(x).logits[..., SHIFT + 1 :], rtol=1e-5, atol=1e-5
    )


def test_another_base_than_that_of_the_training_is_refused(tmp_path):
    place = save_tiny("llama", tmp_path / "lm")
    build_model(over("slots", place), KNOWN, 0).save_pretrained(tmp_path / "saved")
    save_tiny("llama", place, seed=1)
    with pytest.raises(UsageError, match="another model than the one that was trained with"):
        load_model(tmp_path / "saved")


def test_data_in_other_tokens_are_refused():
    with pytest.raises(UsageError, match="prepare them with --tokenizer"):
        build_model(over("slots", folder("llama")), 1024, 0)


def test_more_chunks_than_there_are_positions_are_refused():
    model = shared("gpt2")  # 64 positions
    assert model.most_tokens() == 64
    assert model.most_tokens(3) == 64 - 3 * T
    model(ids(1, 64))
    with pytest.raises(UsageError, match="room for 64 tokens"):
        model(ids(1, 65))
    with pytest.raises(UsageError, match="room for 64 tokens"):
        model.generate(ids(1, 60), max_new_tokens=5)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (PretrainedShape, {"chunks": 0}),
        (VectorReader, {"vectors": 0}),
        (BaseConfig, {"lora_rank": -1}),
        (BaseConfig, {"trained": True}),
    ],
)
def test_impossible_shapes_are_refused_with_a_sentence(kind, wrong):
    with pytest.raises(UsageError):
        kind(**wrong)
