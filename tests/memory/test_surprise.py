"""How unexpected words are where they stand: what is learnt of pairs, and what a place's bias may know."""

from dataclasses import replace

import pytest
import torch
from memory_models import ENCODERS, POINTWISE, TRANSFORMER, ids

from memlm.loading import build_model
from memlm.models.shapes import MemoryShape
from memlm.readers.config import PointerReader
from memlm.readers.surprise import Surprise

READER = PointerReader(unroll=POINTWISE, word_dim=8, key_dim=8, top=6, gate=8, window=2, surprise=4)
SHAPE = MemoryShape(chunks=4, encoder=ENCODERS[2], decoder=TRANSFORMER, reader=READER)


def chain(p_VV: torch.Tensor, rows: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    word_B = torch.randint(1, len(p_VV), (rows,), generator=generator)
    words = [word_B]
    for _ in range(length - 1):
        words.append(torch.multinomial(p_VV[words[-1]], 1, generator=generator)[:, 0])
    return torch.stack(words, 1)


def test_what_is_learnt_is_how_much_likelier_than_chance_a_word_is_after_another():
    V = 6
    p_VV = (2 * torch.randn(V, V, generator=torch.Generator().manual_seed(1))).softmax(-1)
    p_VV[:, 0] = 0  # no word
    p_VV = p_VV / p_VV.sum(-1, keepdim=True)
    torch.manual_seed(0)
    surprise, words_BP = Surprise(V, 6, 1), chain(p_VV, 40, 1000)
    optimizer = torch.optim.Adam([p for n, p in surprise.named_parameters() if n.startswith(("first", "sec", "com"))])
    for group in optimizer.param_groups:
        group["lr"] = 0.02
    for step in range(300):
        optimizer.zero_grad()
        surprise.lesson(words_BP[:, step:]).backward()
        optimizer.step()
    v, w = torch.meshgrid(torch.arange(1, V), torch.arange(1, V), indexing="ij")
    told = surprise(torch.stack([v, w], -1))[..., 0].detach()
    torch.testing.assert_close(told.exp() / V, p_VV[1:, 1:], atol=0.1, rtol=0)


def test_no_word_surprises_where_there_is_none():
    surprise = Surprise(8, 4, 1)
    assert surprise(torch.tensor([[0, 3, 0], [2, 0, 0]])).eq(0).all()
    assert surprise.lesson(torch.zeros(2, 9, dtype=torch.long)) == 0
    assert surprise(torch.tensor([2, 3])).ne(0).all()


def test_a_new_model_predicts_as_one_without():
    plain = build_model(replace(SHAPE, reader=replace(READER, surprise=0)), 40, 0).eval()
    model, tokens = build_model(SHAPE, 40, 0).eval(), ids(2, 16) % 5 + 2
    with torch.no_grad():
        for one in (plain, model):
            one.get_parameter("reader.gate.bias")[0] = 0.0  # it copies
        assert torch.equal(model(tokens).logits, plain(tokens).logits)
        model.get_parameter("reader.surprise.out.weight").fill_(1.0)
        assert not torch.allclose(model(tokens).logits, plain(tokens).logits)


@pytest.mark.parametrize("place", [8, 11])
def test_a_places_bias_knows_the_words_around_it(place):
    """Four before it, itself and one after, of those that are known."""
    surprise, told = Surprise(40, 4, 2), torch.zeros(1, 4)
    torch.nn.init.normal_(surprise.out.weight)
    words, recent = ids(1, 12), ids(1, 8, seed=1)
    here = surprise.bias(words, torch.tensor([place]), recent, told)
    for n in range(12):
        changed = words.clone()
        changed[0, n] = words[0, n] % 37 + 3
        same = torch.equal(surprise.bias(changed, torch.tensor([place]), recent, told), here)
        assert same == (not place - 4 <= n <= place + 1), n
