"""Texts to vectors: padding, batching and sorting change nothing, and every readout reads what it says."""

import numpy as np
import pytest
import torch
from foreign_models import KINDS, LAYERS, WIDTH, save_foreign
from texts import write_documents
from tiny_models import save_tiny

from memlm.data.corpus import Corpus
from memlm.data.prepare import Prepare, prepare
from memlm.errors import UsageError, WorkError
from memlm.pretrained.hidden import OWN_IDS, HiddenReader, View, views_of
from memlm.pretrained.opening import open_pretrained


@pytest.fixture(scope="module")
def corpus(data):
    return Corpus.open(data)


@pytest.fixture(scope="module", params=KINDS)
def opened(request, tmp_path_factory):
    return open_pretrained(str(save_foreign(request.param, tmp_path_factory.mktemp("foreign") / "model")))


def all_views(opened):
    views = views_of(opened, (0, 1, -1), ("last", "mean", "cls", "at:1,-1"))
    return views + (views_of(opened, (), ()) if opened.kind == "sentence" else [])


def reader_of(opened, corpus, batch=4):
    return HiddenReader(opened, all_views(opened), corpus.tokenizer, batch)


def test_padding_and_batching_never_change_an_embedding(opened, corpus):
    tokens = corpus.chunks("test", 12, limit=10).tokens
    tokens[3, 6:] = tokens[3, 0]  # texts of other lengths
    tokens[7, 2:] = tokens[7, 1]
    together = reader_of(opened, corpus, batch=7).encode(torch.from_numpy(tokens))
    reader = reader_of(opened, corpus, batch=1)
    for k in range(len(reader.views)):
        alone = torch.cat([reader.encode(torch.from_numpy(row[None]))[k] for row in tokens])
        torch.testing.assert_close(together[k], alone, atol=1e-5, rtol=1e-5)


def test_readouts_read_what_they_say(opened, corpus):
    reader = reader_of(opened, corpus)
    tokens = corpus.chunks("test", 9, limit=1).tokens
    (row,), cut = reader.ids(tokens)
    assert not cut
    out = opened.model(input_ids=torch.tensor([row]), output_hidden_states=True)
    for view, found in zip(reader.views, reader.encode(torch.from_numpy(tokens)), strict=True):
        h_TD = out.hidden_states[view.layer][0]
        expected = {
            "last": h_TD[-1],
            "mean": h_TD.mean(0),
            "cls": h_TD[0],
            "at:1,-1": torch.cat([h_TD[1], h_TD[-1]]),
            "pooled": torch.nn.functional.normalize(h_TD.mean(0), dim=0),
        }[view.readout]
        torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-5)
    assert reader.dims == [2 * WIDTH if view.readout.startswith("at") else WIDTH for view in reader.views]


def test_no_more_blocks_run_than_are_read(opened, corpus):
    tokens = torch.from_numpy(corpus.chunks("test", 9, limit=5).tokens)
    ran: list[int] = []
    blocks = reader_of(opened, corpus)._blocks
    assert blocks is not None
    hooks = [block.register_forward_hook(lambda *_, n=n: ran.append(n)) for n, block in enumerate(blocks)]
    views = all_views(opened)
    for layer in range(opened.layers + 1):
        own = [number for number, view in enumerate(views) if view.layer == layer]
        every = reader_of(opened, corpus).encode(tokens)
        lower = HiddenReader(opened, [views[n] for n in own], corpus.tokenizer, 8)
        assert lower._blocks is blocks
        ran.clear()
        for number, vectors in zip(own, lower.encode(tokens), strict=True):
            torch.testing.assert_close(vectors, every[number])
        assert set(ran) == set(range(layer))
    for hook in hooks:
        hook.remove()


def test_the_text_is_the_chunks_and_broken_characters_are_counted(opened, corpus):
    reader = reader_of(opened, corpus)
    tokens = np.array([corpus.tokenizer.encode("the sea was calm and cold").ids[:5]] * 2)
    euro = corpus.tokenizer.encode("€").ids
    assert len(euro) > 1  # a character of several tokens
    tokens[1, 0] = euro[-1]
    assert reader.told(tokens)["texts_broken"] == 1
    assert opened.tokenizer.decode(reader.ids(tokens[:1])[0][0], skip_special_tokens=True) == reader.texts(tokens)[0]


def test_too_long_texts_are_cut_and_counted(corpus, tmp_path):
    opened = open_pretrained(str(save_foreign("encoder", tmp_path / "model", most=8)))
    reader = HiddenReader(opened, views_of(opened, (), ()), corpus.tokenizer)
    tokens = corpus.chunks("test", 20, limit=3).tokens
    assert reader.told(tokens) == {"model_tokens": 8, "texts_cut": 3, "texts_broken": 0}
    assert torch.isfinite(reader.encode(torch.from_numpy(tokens))[0]).all()


def test_data_in_the_model_s_own_tokens_are_read_as_they_are(corpus, tmp_path):
    folder = save_tiny("llama", tmp_path / "model")
    source = write_documents(tmp_path / "documents", count=3)
    own = prepare(Prepare(source=str(source), out=tmp_path / "data", tokenizer=folder))
    opened = open_pretrained(str(folder))
    reader = HiddenReader(opened, views_of(opened, (), ()), own.tokenizer)
    assert reader.shares_ids
    tokens = own.chunks("test", 9, limit=4).tokens
    rows, cut = reader.ids(tokens)
    before = len(rows[0]) - 9  # what the tokenizer puts before every text
    assert [row[before:] for row in rows] == (tokens - OWN_IDS).tolist()
    assert not cut
    # Read as text, they are the same ids and the same vectors.
    other = HiddenReader(opened, reader.views, own.tokenizer)
    vars(other)["shares_ids"] = False
    start = own.test.tokens[None, :9].astype(np.int64)  # of a document: text that is cut in no word
    assert other.ids(start) == reader.ids(start)
    (vector,), (again,) = (one.encode(torch.from_numpy(start)) for one in (reader, other))
    torch.testing.assert_close(vector, again)
    assert not HiddenReader(opened, reader.views, corpus.tokenizer).shares_ids


def test_layers_and_readouts_that_are_not_there_are_refused(opened, corpus, monkeypatch):
    assert views_of(opened, (-1, LAYERS), ("last",)) == [View(LAYERS, "last")]
    for layers, readouts, expected in (
        ((LAYERS + 1,), (), "layers 0 .* to 2, not 3"),
        ((-1,), ("middle",), "no readout 'middle'"),
        ((-1,), ("at:x",), "names no places"),
        ((0,), ("pooled",), "no pooled embedding"),
    ):
        with pytest.raises(UsageError, match=expected):
            views_of(opened, layers, readouts)
    reader = HiddenReader(opened, [View(1, "at:99")], corpus.tokenizer)
    tokens = torch.from_numpy(corpus.chunks("test", 4, limit=2).tokens)
    with pytest.raises(UsageError, match="beyond the shortest text"):
        reader.encode(tokens)
    monkeypatch.setattr("memlm.pretrained.checks.free_bytes", lambda _: 1000)
    with pytest.raises(WorkError, match="activations"):
        reader_of(opened, corpus).encode(tokens)
