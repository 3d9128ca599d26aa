"""What needs no probe: a crammed vector and inversion of hidden states."""

import pytest
import torch
from foreign_models import LAYERS, save_foreign

from memlm.errors import UsageError
from memlm.pretrained.cram import cram, write
from memlm.pretrained.invert import invert
from memlm.pretrained.opening import open_pretrained

ROWS = [[5, 60, 7, 80], [9, 9, 120]]  # of two lengths


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_foreign("causal", tmp_path_factory.mktemp("foreign") / "model"))


def test_a_vector_begins_at_the_mean_embedding_and_learns_its_text(folder):
    opened = open_pretrained(folder, head=True)
    start = cram(opened, ROWS, steps=0)
    mean_D = opened.model.get_input_embeddings().weight.mean(0)
    torch.testing.assert_close(start.vectors_ND, mean_D.expand(2, -1))
    torch.testing.assert_close(start.nats_N, start.before_N)
    found = cram(opened, ROWS, steps=60)
    assert (found.nats_N < start.nats_N).all()
    assert found.scored_NT.sum(1).tolist() == [4, 3]
    assert not (found.forced_NT & ~found.scored_NT).any()
    # Free running is teacher forcing up to the first wrong token.
    first = (~found.forced_NT).int().argmax(1)
    for n, t in enumerate(first.tolist()):
        assert found.free_NT[n, :t].all()
    alone = cram(opened, ROWS[1:], steps=60)  # padding beside it changes nothing
    torch.testing.assert_close(alone.before_N[0], found.before_N[1], atol=1e-4, rtol=1e-4)


def test_writing_with_a_cache_is_writing_without(folder):
    opened = open_pretrained(folder, head=True)
    embed = opened.model.get_input_embeddings()
    vectors_ND = torch.randn(2, embed.weight.shape[1], generator=torch.Generator().manual_seed(0))
    written = write(opened, vectors_ND, 5)
    read = torch.cat([vectors_ND[:, None], embed(written[:, :-1])], 1)
    assert torch.equal(opened.model(inputs_embeds=read).logits.argmax(-1), written)


def test_a_text_is_found_again_from_its_states_where_its_tokens_are_candidates(folder):
    opened = open_pretrained(folder)
    size = opened.model.config.vocab_size
    for layer in (1, LAYERS):
        for one, row in zip(invert(opened, ROWS, layer, torch.arange(size)), ROWS, strict=True):
            assert len(one.true_T) == len(row)
            assert one.true_T.all()
            assert one.found_T.all()
    (one,) = invert(opened, ROWS[:1], LAYERS, torch.tensor([5, 7, 80, 90]))  # without 60
    assert one.within_T.tolist() == [True, False, True, True]
    assert one.true_T.tolist() == [True, False, True, True]  # the true prefix is read after the miss
    assert one.found_T.tolist()[:2] == [True, False]


def test_only_causal_models_are_crammed_and_inverted(tmp_path):
    masked = open_pretrained(str(save_foreign("masked", tmp_path / "model")))
    for call in (lambda: cram(masked, ROWS), lambda: invert(masked, ROWS, 1, torch.arange(9))):
        with pytest.raises(UsageError, match="no causal"):
            call()
