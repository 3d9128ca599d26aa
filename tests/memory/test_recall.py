"""Recall that checks itself: what is told again by the encoder, and what is searched for where it is not."""

import pytest
import torch
from torch import nn

from memlm.memory.chunk_decoder import MANY, SEARCH, ChunkDecoder
from memlm.nn.config import StackConfig

T, M, V = 8, 64, 20


class Errs(ChunkDecoder):
    """Tells all tokens of a memory but some, of which the right one is only the second likeliest."""

    def __init__(self, text_BT: torch.Tensor, wrong: int, sure: float = 9.0):
        super().__init__(T, M, "slots", StackConfig(kind="pointwise", width=4, layers=0), V)
        self.text_BT, self.wrong, self.sure = text_BT, wrong, sure

    def forward(self, memory_BM: torch.Tensor) -> torch.Tensor:
        logits_BTV = self.sure * nn.functional.one_hot(self.text_BT[: len(memory_BM)], V).float()
        other_BT = (self.text_BT[: len(memory_BM)] + 1) % V
        for place in range(self.wrong):
            logits_BTV[:, place] += (self.sure + 0.5) * nn.functional.one_hot(other_BT[:, place], V)
        return logits_BTV


@pytest.fixture
def encode():
    torch.manual_seed(0)
    embed, mix = nn.Embedding(V, 8), nn.Linear(8 * T, M)
    return lambda ids_BT: mix(embed(ids_BT).flatten(1))


def text(rows: int) -> torch.Tensor:
    return torch.randint(0, V, (rows, T), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_what_encodes_to_another_memory_is_searched_for(encode, wrong):
    text_BT = text(5)
    decoder = Errs(text_BT, wrong)
    memory_BM = encode(text_BT).detach()
    assert torch.equal(decoder.words(memory_BM), text_BT) == (wrong == 0)
    decoder.checked_by(encode)
    assert torch.equal(decoder.words(memory_BM), text_BT)
    assert not [name for name, _ in decoder.named_parameters() if "encoder" in name]


def test_what_the_decoder_itself_does_not_expect_to_be_right_is_left(encode):
    decoder = Errs(text(5), 1, sure=0.1)
    decoder.checked_by(encode)
    memory_BM = encode(text(5)).detach()
    assert torch.equal(decoder.words(memory_BM), decoder(memory_BM).argmax(-1))


def test_no_token_is_searched_for_in_the_place_of_padding(encode):
    text_BT = text(5).clamp(min=1)
    decoder = Errs(text_BT, 0)
    decoder.checked_by(encode)
    text_BT = text_BT.clone()
    text_BT[:, -2:] = 0
    assert torch.equal(decoder.words(encode(text_BT).detach()), decoder.text_BT)


def test_many_memories_of_which_most_do_not_agree_are_left(encode):
    decoder = Errs(text(MANY), 1)
    decoder.checked_by(encode)
    memory_BM = encode(text(MANY)).detach()
    assert torch.equal(decoder.words(memory_BM), decoder(memory_BM).argmax(-1))


def test_rounding_to_8_bits_agrees(encode):
    """No search is begun for what only rounding moved."""
    memory_BM = encode(text(20)).detach()
    step_B1 = memory_BM.abs().amax(1, keepdim=True) / 127
    decoder = Errs(text(20), 0)
    decoder.checked_by(encode)
    off_B = decoder._off(text(20)[:, None], (memory_BM / step_B1).round() * step_B1)[:, 0]
    assert (off_B < SEARCH.agree).all()
