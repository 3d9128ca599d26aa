"""How memories are kept: rounded, cut and corrected, what comes back is what was checked, and costs what is told."""

from itertools import chain

import numpy as np
import pytest
import torch
from banks import PERFECT, TEXTS, T, autoencoder, memory_model, recalled, tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from memlm.bank.bank import Bank
from memlm.bank.encode import encode_documents, encode_texts
from memlm.bank.kept import TYPES, Keeping, correct, corrections, outside, pack, rounded, row_bytes
from memlm.bank.recall import decode_texts, recall
from memlm.bank.search import nearest
from memlm.errors import UsageError
from memlm.files import read_json, write_json
from memlm.loading import build_model
from memlm.memory.bridge import NestedSlotsBridge
from memlm.models.shapes import CausalShape
from memlm.nn.config import StackConfig

FORMS = [*TYPES]
NUMBERS = st.floats(-100, 100, width=32, allow_subnormal=False).map(lambda x: x if abs(x) > 1e-3 else 0.0)
MEMORIES = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=40),
    elements=NUMBERS,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(MEMORIES, st.sampled_from(FORMS))
def test_a_rounded_memory_is_within_its_step_and_rounds_to_itself(memory_KM, dtype):
    again_KM, step_KG = rounded(memory_KM, dtype)
    assert again_KM.shape == memory_KM.shape
    assert np.isfinite(again_KM).all()
    assert not outside(memory_KM, again_KM, dtype, step_KG).any()
    elements, scale = pack(memory_KM, dtype)
    size = elements.nbytes + (0 if scale is None else scale.nbytes)
    assert size == len(memory_KM) * row_bytes(dtype, memory_KM.shape[1])


def test_more_bits_round_less_and_half_a_byte_is_better_than_one_scale_for_all():
    memory_KM = np.random.default_rng(0).normal(size=(200, 256)).astype(np.float32)
    error = {dtype: np.square(rounded(memory_KM, dtype)[0] - memory_KM).mean() ** 0.5 for dtype in FORMS}
    assert error["fp32"] == 0 < error["fp16"] < error["bf16"] < error["int8"] < error["int4"] < 0.09
    assert [row_bytes(dtype, 256) for dtype in FORMS] == [1024, 512, 512, 260, 144]


@pytest.mark.parametrize("dtype", FORMS)
def test_what_lies_beyond_the_rounding_is_seen(dtype):
    memory_KM = np.random.default_rng(1).normal(size=(50, 64)).astype(np.float32)
    kept_KM, step_KG = rounded(memory_KM, dtype)
    moved_KM = memory_KM.copy()
    moved_KM[:, 3] -= np.sign(moved_KM[:, 3])  # towards 0 and past it: no clipped number explains that
    seen_KM = outside(moved_KM, kept_KM, dtype, step_KG) > 0
    assert seen_KM[:, 3].all()
    assert seen_KM.sum() == 50


@given(st.lists(st.tuples(st.integers(0, 99_999), st.integers(0, 99_999), st.booleans()), max_size=200))
def test_corrections_give_the_true_tokens_whatever_was_recalled(told):
    found, true, sure = (np.array(x) for x in zip(*told, strict=True)) if told else [np.empty(0, np.int64)] * 3
    kept = corrections(found, true, sure.astype(bool))
    assert correct(found[None], [kept])[0].tolist() == true.tolist()
    assert (kept == b"") == bool(((found == true) & sure).all())


@pytest.fixture(scope="module")
def nested():
    """An autoencoder of 4 tokens whose first quarter of numbers holds the first token, the first half the first two."""
    model = autoencoder()
    model.decoder.bridge.sizes = (2 * 32, 4 * 32, T * 32)
    return model


def test_a_size_is_kept_for_each_memory_that_tells_enough(nested, tmp_path):
    ids = tokenizer().encode(TEXTS["sea"], add_special_tokens=False).ids
    texts = {"two": tokenizer().decode(ids[:2]), "four": tokenizer().decode(ids[:4]), "all": TEXTS["sea"]}
    made = encode_documents(nested, tokenizer(), texts.items(), tmp_path / "bank", keeping=Keeping(accuracy=1.0))
    numbers = {name: made[name].kept.numbers.tolist() for name in texts}
    assert (numbers["two"], numbers["four"]) == ([64], [128])
    assert numbers["all"][:-1] == [T * 32] * (len(ids) // T)
    assert numbers["all"][-1] == next(size for size in (64, 128, T * 32) if size >= 32 * (len(ids) % T))
    assert recalled(made, nested) == texts
    whole = sum(n for kept in numbers.values() for n in kept)
    assert (made.stored_numbers, made.memory_bytes) == (whole, 4 * whole)
    hit = nearest(made, nested.encode(torch.tensor([(ids[:2] * T)[:T]])).numpy(), 1)[0]
    assert (hit.document, hit.numbers, round(hit.score, 5)) == ("two", 64, 1.0)
    with pytest.raises(UsageError, match=r"made with accuracy 1.0: leave --accuracy out"):
        encode_documents(
            nested, tokenizer(), [("b", "b")], tmp_path / "bank", append=True, keeping=Keeping(accuracy=0.5)
        )
    grown = encode_documents(nested, tokenizer(), [("b", "b")], tmp_path / "bank", append=True)
    assert recalled(grown, nested) == texts | {"b": "b"}


def test_cut_memories_take_the_room_of_their_size(nested, tmp_path):
    made = encode_documents(nested, tokenizer(), TEXTS.items(), tmp_path / "bank", keeping=Keeping(numbers=64))
    assert made.memory_bytes == len(made) * 64 * 4
    assert not made.memories()[:, 64:].any()
    ids = tokenizer().encode(TEXTS["sea"], add_special_tokens=False).ids
    assert decode_texts(made["sea"], nested, tokenizer())[0].startswith(tokenizer().decode(ids[:2]))


def test_how_much_of_a_memory_is_read_can_be_chosen_then(nested, tmp_path):
    made = encode_documents(nested, tokenizer(), TEXTS.items(), tmp_path / "whole", keeping=Keeping(lossless=True))
    less = encode_documents(nested, tokenizer(), TEXTS.items(), tmp_path / "less", keeping=Keeping(numbers=64))
    for name in TEXTS:
        assert [*chain(*recall(made, nested, name, numbers=64))] == [*chain(*recall(less, nested, name))]
        assert made[name].cut(64).bytes == less[name].bytes


@pytest.mark.parametrize("dtype", ["fp32", "int4"])
def test_what_a_decoder_gets_wrong_comes_back_from_a_lossless_bank(tmp_path, dtype):
    model = autoencoder()
    with torch.no_grad():
        model.decoder.head.weight[40:200] = 0  # it never tells these
    keeping = Keeping(dtype=dtype, lossless=True)
    made = encode_documents(model, tokenizer(), TEXTS.items(), tmp_path / "bank", keeping=keeping)
    plain = encode_documents(model, tokenizer(), TEXTS.items(), tmp_path / "plain", keeping=Keeping(dtype=dtype))
    assert recalled(plain, model) != TEXTS
    assert recalled(made, model) == TEXTS
    assert 0 < made.memory_bytes - plain.memory_bytes < made.tokens * 4
    in_process = encode_texts(model, tokenizer(), list(TEXTS.values()), keeping=keeping)
    assert decode_texts(in_process, model, tokenizer()) == list(TEXTS.values())
    assert in_process.bytes == made.memory_bytes
    assert decode_texts(in_process.of(2), model, tokenizer()) == [TEXTS["bären"]]
    one_by_one = (in_process.of(0).rows(slice(k, k + 1)) for k in range(len(in_process.of(0))))
    assert "".join(decode_texts(one, model, tokenizer())[0] for one in one_by_one) == next(iter(TEXTS.values()))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"numbers": 128}, r"can be cut to 256 numbers: train one whose .* \(memlm train slots-nested\)"),
        ({"accuracy": 0.9}, "has no choice"),
        ({"accuracy": 0.9, "numbers": 256}, "not both"),
        ({"dtype": "int3"}, "int3"),
        ({"accuracy": 1.5}, "accuracy must be above 0 and at most 1"),
    ],
)
def test_what_memories_cannot_be_kept_as_is_refused(tmp_path, asked, said):
    with pytest.raises(UsageError, match=said):
        encode_documents(autoencoder(), tokenizer(), TEXTS.items(), tmp_path / "bank", keeping=Keeping(**asked))
    assert not list(tmp_path.iterdir())


def test_without_a_decoder_of_single_memories_nothing_is_lossless(tmp_path):
    causal = build_model(CausalShape(chunk_tokens=T, stack=StackConfig(kind="mixer", width=8)), 300, 0).eval()
    for model, said in (causal, "no decoder"), (memory_model(autoencoder()), "no decoder of single memories"):
        with pytest.raises(UsageError, match=said):
            encode_documents(model, tokenizer(), TEXTS.items(), tmp_path / "b", keeping=Keeping(lossless=True))


def test_a_bank_of_format_2_is_read_and_stays_one(made, model, tmp_path, monkeypatch):
    from memlm.bank import encode

    monkeypatch.setattr(encode, "FORMAT", 2)
    old = encode_documents(model, tokenizer(), TEXTS.items(), tmp_path / "old")
    told = read_json(tmp_path / "old" / "meta.json")
    assert told["format"] == 2
    assert not {"numbers", "accuracy", "lossless"} & told.keys()
    assert recalled(Bank.open(old.path), model) == TEXTS
    assert recalled(encode_documents(model, tokenizer(), [("n", "a")], old.path, append=True), model) == TEXTS | {
        "n": "a"
    }
    write_json(tmp_path / "old" / "meta.json", told | {"lossless": True})
    with pytest.raises(UsageError, match="of format 2"):
        Bank.open(old.path)


def test_a_nested_bridge_reads_zeros_for_the_rest_and_trains_every_size():
    torch.manual_seed(0)
    bridge = NestedSlotsBridge(3, 8, 4)
    assert bridge.sizes == (2, 4, 8)
    memory_BM = torch.randn(3000, 8)
    whole = bridge.eval()(memory_BM)
    cut = [bridge(memory_BM * (torch.arange(8) < size)) for size in (2, 4)]
    trained = bridge.train()(memory_BM)
    shares = [(trained - other).abs().amax((1, 2)).lt(1e-6).float().mean().item() for other in (*cut, whole)]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0.28
    assert PERFECT.memory_dim % 4 == 0
