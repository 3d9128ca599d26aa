"""Cached generation: every logit is that of the whole text read anew, and the cache holds what it is said to hold."""

from dataclasses import replace

import pytest
import torch
from memory_models import ENCODERS, HEADS, MIXER, READING, SHAPES, TRANSFORMER, M, T, V, build, ident, ids
from tiny_readers import EverythingReader
from transformers import MaxLengthCriteria, StoppingCriteria, SuppressTokensLogitsProcessor
from transformers.generation.streamers import BaseStreamer

from memlm.decoding.cached import Prompt, Recomputed, cache_entries
from memlm.decoding.generate import generate
from memlm.errors import UsageError
from memlm.models.shapes import CausalShape, FullContextShape, MemoryShape, RecurrentShape
from memlm.readers.config import NoReader, VectorReader

LENGTHS = [(T, T), (2 * T + 1, T, 3, 0), (1, T + 1)]  # the same, all different, different but full at the same time
STEPS = 2 * T
RECURRENT = [
    RecurrentShape(chunks=4, encoder=replace(ENCODERS[1], stack=stack), decoder=decoder)
    for stack in (MIXER, TRANSFORMER)
    for decoder in (MIXER, HEADS, TRANSFORMER)
]
CAUSAL = [CausalShape(chunk_tokens=3 * T + STEPS, stack=stack) for stack in (MIXER, HEADS, TRANSFORMER)]
MODEL = build(next(s for s in READING if s.decoder is TRANSFORMER and s.reader.kind == "vector"))


def prompt_of(lengths, seed=0, **given) -> Prompt:
    texts = ids(len(lengths), max(lengths), seed)
    return Prompt(texts * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]), list(lengths), **given)


def truth(model, prompt: Prompt, row: int, follow: torch.Tensor) -> torch.Tensor:
    """Logits of the tokens that follow one row's prompt, of the whole text read at once and alone."""
    length = prompt.lengths[row]
    text = torch.cat([prompt.ids[row, :length], follow])[None]
    given = {}
    if prompt.memories is not None:
        given["memories"] = prompt.memories[row : row + 1]
    if prompt.marks is not None:
        chunks = -(-text.shape[1] // T)
        given["marks"] = torch.nn.functional.pad(prompt.marks[row : row + 1], (0, chunks))[:, :chunks]
    return model(text, **given).logits[0, length:]


def assert_decodes(model, prompt: Prompt, steps: int = STEPS) -> None:
    """Token by token, over chunk boundaries: the logits of every row are its own alone, and the bytes are told."""
    rows, given = len(prompt.lengths), 0 if prompt.memories is None else prompt.memories.shape[1]
    follow = ids(rows, steps, seed=7)
    expected = torch.stack([truth(model, prompt, r, follow[r]) for r in range(rows)])
    decoding, logits = model.decoding(prompt), []
    for step in range(steps):
        logits.append(decoding.logits)
        assert decoding.nbytes == rows * model.cache_bytes(max(prompt.lengths) + step, given)
        decoding.step(follow[:, step])
    torch.testing.assert_close(torch.stack(logits, 1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=ident)
def test_cached_logits_are_those_of_the_whole_text(shape):
    model = build(shape)
    for lengths in LENGTHS:
        rows = len(lengths)
        if lengths == LENGTHS[1] or not model.reads_given_memories:
            assert_decodes(model, prompt_of(lengths))
        if model.reads_given_memories:
            memories = torch.randn(rows, 2, M, generator=torch.Generator().manual_seed(2))
            marks = torch.rand(rows, 3, generator=torch.Generator().manual_seed(1)) < 0.5
            assert_decodes(model, prompt_of(lengths, memories=memories, marks=marks))


@pytest.mark.parametrize("shape", [s for s in SHAPES if s not in READING], ids=ident)
def test_marks_without_memories(shape):
    for lengths in LENGTHS:
        assert_decodes(build(shape), prompt_of(lengths, marks=torch.tensor([[False, True]] * len(lengths))))


@pytest.mark.parametrize("shape", RECURRENT, ids=lambda s: f"{s.encoder.stack.kind}-{s.decoder.kind}{s.decoder.heads}")
def test_the_recurrent_model_carries_its_memory(shape):
    model = build(shape)
    for lengths in LENGTHS:
        assert_decodes(model, prompt_of(lengths, marks=torch.tensor([[True, False, True]] * len(lengths))))
    assert_decodes(model, prompt_of(LENGTHS[1]))


@pytest.mark.parametrize("shape", CAUSAL, ids=lambda s: f"{s.stack.kind}{s.stack.heads}")
def test_the_causal_model_keeps_all_tokens(shape):
    for lengths in LENGTHS:
        assert_decodes(build(shape), prompt_of(lengths))


def test_chunks_of_one_token():
    encoder = replace(ENCODERS[1], chunk_tokens=1)
    readers = (VectorReader(), NoReader(), EverythingReader())
    shapes = [MemoryShape(chunks=4, encoder=encoder, decoder=TRANSFORMER, reader=reader) for reader in readers]
    for shape in (*shapes, FullContextShape(chunk_tokens=1, decoder=TRANSFORMER)):
        model = build(shape)
        assert_decodes(model, prompt_of((3, 0, 2)))
        assert_decodes(model, prompt_of((2, 2)))


@pytest.mark.parametrize("shape", [READING[0], READING[-1], SHAPES[-1], RECURRENT[0], CAUSAL[0]])
def test_without_a_cache_the_same_text_comes_out(shape):
    model = build(shape)
    prompts = prompt_of((T + 1, 2, 0)).ids
    given = {"max_new_tokens": STEPS, "eos_token_id": None}
    assert torch.equal(model.generate(prompts, **given), model.generate(prompts, use_cache=False, **given))


@pytest.mark.parametrize("reader", ["vector", "full"])
def test_what_is_not_cached_is_the_whole_text_read_again(reader):
    model = build(next(s for s in SHAPES if s.decoder is TRANSFORMER and reader in ident(s)))
    marks = torch.tensor([[True, False]] * 3)
    memories = torch.randn(3, 2, M) if reader == "vector" else None
    prompt, follow = prompt_of((T, 3, 0), marks=marks, memories=memories), ids(3, STEPS, seed=7)
    decoding = Recomputed(model, T, prompt)
    for step in range(STEPS):
        for row in range(3):
            expected = truth(model, prompt, row, follow[row])[step]
            torch.testing.assert_close(decoding.logits[row], expected, rtol=1e-5, atol=1e-5)
        decoding.step(follow[:, step])
    assert decoding.nbytes == 0


@pytest.mark.parametrize(("decoder", "keeps"), [(TRANSFORMER, 2), (MIXER, 1), (HEADS, 1)])
@pytest.mark.parametrize(
    ("reader", "S"), [(NoReader(), 0), (VectorReader(), 1), (VectorReader(vectors=2), 2), (VectorReader(vectors=T), T)]
)
def test_the_cache_is_as_large_as_its_formula(decoder, keeps, reader, S):
    """layers x 2 x width x bytes of a number x (S N/T + T) for each row, and for every memory given S more entries."""
    shape = MemoryShape(chunks=9, encoder=ENCODERS[0], decoder=decoder, positions="fixed", reader=reader)
    for dtype, size in ((torch.float32, 4), (torch.bfloat16, 2)):
        model = build(shape).to(dtype)
        decoding = model.decoding(prompt_of((3 * T, 3 * T)))
        assert decoding.nbytes == 2 * 2 * keeps * 8 * size * (S * 3 + T)
        for n in range(T):
            assert decoding.nbytes == 2 * model.cache_bytes(3 * T + n)
            decoding.step(torch.tensor([3, 4]))
        assert decoding.nbytes == 2 * 2 * keeps * 8 * size * (S * 4 + T)
    if S:
        decoding = build(shape).decoding(Prompt(torch.zeros(1, 0, dtype=torch.long), [0], torch.randn(1, 5, M)))
        assert decoding.nbytes == 2 * keeps * 8 * 4 * (S * 5 + T)
    assert cache_entries(S, T, 3 * T + 1, 5) == S * 8 + T


def test_only_the_full_chunks_of_a_prompt_are_encoded_and_their_tokens_never_decoded(monkeypatch):
    encoded, decoded = [], []
    encode, decode = type(MODEL.encoder).forward, type(MODEL.decoder).forward
    monkeypatch.setattr(type(MODEL.encoder), "forward", lambda self, x: encoded.append(len(x)) or encode(self, x))
    monkeypatch.setattr(
        type(MODEL.decoder), "forward", lambda self, x, *a, **k: decoded.append(x.shape[1]) or decode(self, x, *a, **k)
    )
    decoding = MODEL.decoding(prompt_of((3 * T + 2, 2 * T)))
    assert encoded == [3 + 2]
    S = MODEL.reader.vectors
    assert decoded == [3 * S, 3]  # the memories' entries; the last chunk's start slot and two tokens
    for _ in range(2):
        decoding.step(torch.tensor([5, 6]))
    assert encoded == [5, 1]
    assert decoded == [3 * S, 3, 1, S, 1]


def test_a_prompt_may_be_padded_at_either_side():
    a, b = ids(1, 5, seed=1), ids(1, 3, seed=2)
    alone = [MODEL.generate(x, max_new_tokens=6, eos_token_id=None)[0, x.shape[1] :] for x in (a, b)]
    left = torch.nn.functional.pad(b, (2, 0))
    right = torch.nn.functional.pad(b, (0, 2))
    junk = torch.cat([torch.tensor([[7, 8]]), b], 1)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    for second, attention_mask in ((left, None), (right, None), (left, mask), (junk, mask)):
        out = MODEL.generate(torch.cat([a, second]), attention_mask=attention_mask, max_new_tokens=6, eos_token_id=None)
        assert out.shape == (2, 11)
        assert torch.equal(out[0], torch.cat([a[0], alone[0]]))
        assert torch.equal(out[1], torch.cat([left[0], alone[1]]))


def test_id_0_inside_a_text_is_a_token():
    text = torch.tensor([[5, 0, 6]])
    assert not torch.equal(MODEL.decoding(Prompt(text, [3])).logits, MODEL.decoding(Prompt(text[:, 2:], [1])).logits)
    assert torch.equal(
        MODEL.generate(text, max_new_tokens=3),
        MODEL.generate(text, attention_mask=torch.ones(1, 3), max_new_tokens=3, use_cache=False),
    )


def test_memories_alone_can_be_continued():
    memories = torch.randn(2, 3, M, generator=torch.Generator().manual_seed(0))
    empty = torch.zeros(2, 0, dtype=torch.long)
    out = generate(MODEL, empty, memories=memories, max_new_tokens=5, eos_token_id=None)
    assert out.shape == (2, 5)
    assert torch.equal(
        out, MODEL.generate(empty, memories=memories, max_new_tokens=5, eos_token_id=None, use_cache=False)
    )
    assert torch.equal(out[:, 0], MODEL(torch.zeros(2, 1, dtype=torch.long), memories=memories).logits[:, 0].argmax(-1))


def test_a_seed_makes_sampling_repeat_itself_and_leaves_torchs_own_draws_alone():
    given = {
        "do_sample": True,
        "max_new_tokens": 12,
        "eos_token_id": None,
        "temperature": 1.5,
        "top_k": 30,
        "top_p": 0.9,
    }
    x = ids(3, 5)
    state = torch.get_rng_state()
    first = MODEL.generate(x, seed=3, **given)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, MODEL.generate(x, seed=3, **given))
    assert torch.equal(first, MODEL.generate(x, seed=3, use_cache=False, **given))
    assert torch.equal(first, MODEL.generate(x, generator=torch.Generator().manual_seed(3), **given))
    assert not torch.equal(first, MODEL.generate(x, seed=4, **given))
    torch.manual_seed(0)
    free = MODEL.generate(x, **given)
    assert not torch.equal(free, MODEL.generate(x, **given))


def test_the_likeliest_token_alone_is_greedy():
    x, given = ids(3, 5), {"max_new_tokens": 10, "eos_token_id": None}
    greedy = MODEL.generate(x, **given)
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-6}):
        assert torch.equal(MODEL.generate(x, do_sample=True, seed=0, **narrow, **given), greedy)
    assert torch.equal(MODEL.generate(x, temperature=9.0, top_k=3, **given), greedy)  # not asked to draw


def test_draws_follow_the_probabilities():
    """Of 4,000 rows of one prompt, each token as often as it is likely."""
    x = ids(1, 2).expand(4000, -1)
    drawn = MODEL.generate(x, do_sample=True, max_new_tokens=1, seed=0, temperature=0.5)[:, -1].bincount(minlength=V)
    expected = (MODEL.decoding(Prompt(x[:1], [2])).logits[0] / 0.5).softmax(-1)
    assert (drawn / 4000 - expected).abs().max() < 0.04


def test_a_row_that_ends_is_padded_and_the_others_go_on():
    x = ids(3, 5)
    free = MODEL.generate(x, max_new_tokens=12, eos_token_id=None)
    end = int(free[0, 7])
    for eos in (end, [end, V - 1]):
        ended = MODEL.generate(x, max_new_tokens=12, eos_token_id=eos)
        for row, alone in zip(ended, free, strict=True):
            stops = (alone[5:] == end).nonzero()
            kept = 5 + (int(stops[0]) + 1 if len(stops) else 12)
            assert torch.equal(row[:kept], alone[: min(kept, len(row))])
            assert not row[kept:].any()
    alone = MODEL.generate(x[:1], max_new_tokens=12, eos_token_id=end)
    assert alone[0, -1] == end
    assert alone.shape[1] <= 8


class Recorder(BaseStreamer):
    def __init__(self):
        self.seen, self.ended = [], False

    def put(self, value):
        assert not self.ended
        self.seen.append(value)

    def end(self):
        self.ended = True


def test_a_streamer_is_told_prompt_and_tokens():
    recorder = Recorder()
    out = MODEL.generate(ids(2, 5), max_new_tokens=7, eos_token_id=None, streamer=recorder)
    assert recorder.ended
    assert torch.equal(recorder.seen[0], out[:, :5])
    assert [t.tolist() for t in recorder.seen[1:]] == out[:, 5:].T.tolist()


class AfterThree(StoppingCriteria):
    """Ends the first row after three tokens, and all after six."""

    def __call__(self, input_ids, scores, **kwargs):
        new = input_ids.shape[1] - 5
        assert scores[-1].shape == (len(input_ids), V)
        return torch.tensor([new >= 3, new >= 6])


def test_criteria_and_processors_of_transformers():
    x, given = ids(2, 5), {"max_new_tokens": 10, "eos_token_id": None}
    free = MODEL.generate(x, **given)
    assert torch.equal(MODEL.generate(x, stopping_criteria=[MaxLengthCriteria(max_length=9)], **given), free[:, :9])
    ended = MODEL.generate(x, stopping_criteria=[AfterThree()], **given)
    assert torch.equal(ended[1], free[1, :11])
    assert ended[0].tolist() == [*free[0, :8].tolist(), 0, 0, 0]
    banned = int(free[0, 5])
    other = MODEL.generate(x, logits_processor=[SuppressTokensLogitsProcessor([banned])], **given)
    assert not (other[:, 5:] == banned).any()


def test_more_than_there_is_room_for_is_refused_before_anything_is_written():
    shape = MemoryShape(chunks=2, encoder=ENCODERS[0], decoder=MIXER, positions="fixed")
    model, recorder = build(shape), Recorder()
    assert model.generate(ids(1, T), max_new_tokens=2 * T, eos_token_id=None).shape == (1, 3 * T)
    with pytest.raises(UsageError, match=f"room for {3 * T} tokens, not for {T} and {2 * T + 1} more"):
        model.generate(ids(1, T), max_new_tokens=2 * T + 1, streamer=recorder)
    memories = torch.randn(1, 1, M)
    assert model.generate(ids(1, T), memories=memories, max_new_tokens=T, eos_token_id=None).shape == (1, 2 * T)
    with pytest.raises(UsageError, match="after 1 memories"):
        model.generate(ids(1, T), memories=memories, max_new_tokens=T + 1, streamer=recorder)
    assert not recorder.seen
    causal = build(CausalShape(chunk_tokens=T, stack=MIXER))
    assert causal.generate(ids(1, 2), max_new_tokens=T - 1, eos_token_id=None).shape == (1, T + 1)
    with pytest.raises(UsageError, match="room"):
        causal.generate(ids(1, 2), max_new_tokens=T)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
        ({"max_new_tokens": -3}, "not -3"),
        ({"temperature": 0.0}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 1.5}, "top_p"),
        ({"seed": 1, "generator": torch.Generator()}, "not both"),
        ({"input_ids": torch.zeros(3, dtype=torch.long)}, "input_ids"),
        ({"input_ids": torch.zeros(0, 3, dtype=torch.long)}, "input_ids"),
        ({"input_ids": torch.zeros(1, 3)}, "input_ids"),
        ({"attention_mask": torch.tensor([[1, 0, 1]])}, "holes"),
        ({"attention_mask": torch.ones(1, 4)}, "attention_mask"),
        ({"memories": torch.zeros(1, 2, M + 1)}, "memories must be"),
        ({"memories": torch.zeros(2, 2, M)}, "memories must be"),
        ({"marks": torch.zeros(2, 2, dtype=torch.bool)}, "marks must be"),
    ],
)
def test_wrong_calls_are_told_in_a_sentence(wrong, why):
    with pytest.raises(UsageError, match=why):
        MODEL.generate(**{"input_ids": ids(1, 3), **wrong})


def test_what_a_model_cannot_read_is_refused():
    for shape in (SHAPES[-1], RECURRENT[0], CAUSAL[0]):
        with pytest.raises(UsageError, match="memories"):
            build(shape).generate(ids(1, 3), memories=torch.zeros(1, 2, M))
    with pytest.raises(UsageError, match="marks"):
        build(CAUSAL[0]).generate(ids(1, 3), marks=torch.zeros(1, 1, dtype=torch.bool))


def test_generation_leaves_nothing_behind_that_training_trips_over():
    model = build(READING[0])
    x = ids(2, 3 * T)
    before = model(x).logits
    out = model.generate(x, max_new_tokens=3)
    assert torch.equal(out, model.generate(x, max_new_tokens=3, use_cache=False))
    assert not out.requires_grad
    assert torch.equal(model(x).logits, before)
    model.train()(x, labels=x).loss.backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if name != "start.weight")
