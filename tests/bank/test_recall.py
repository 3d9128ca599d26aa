"""What turns memories back into text, whose text it is held against, and how what came back is counted."""

import numpy as np
import pytest
import torch
from banks import TEXTS, T, memory_model, tokenizer

from memlm.bank.bank import Bank
from memlm.bank.encode import encode_documents
from memlm.bank.kept import Keeping
from memlm.bank.recall import Recalled, find_originals, recall, recall_text
from memlm.errors import UsageError
from memlm.loading import build_model
from memlm.models.shapes import CausalShape
from memlm.nn.config import StackConfig
from memlm.objectives.text import Copy
from memlm.tokens.pieces import Document


def test_a_causal_models_memories_are_kept_and_not_recalled(tmp_path):
    shape = CausalShape(chunk_tokens=T, stack=StackConfig(kind="mixer", width=8))
    model = build_model(shape, 300, 0).eval()
    bank = encode_documents(model, tokenizer(), TEXTS.items(), tmp_path / "bank")
    with pytest.raises(UsageError, match="an autoencoder with the same encoder"):
        list(recall(bank, model, "sea"))


def test_a_memory_model_recalls_as_in_its_blank_copy(model, tmp_path):
    reader = memory_model(model, chunks=6)  # a copy repeats three chunks
    ids = torch.randint(2, 300, (2, 3 * T), generator=torch.Generator().manual_seed(0))
    text = "".join(tokenizer().decode(row.tolist()) for row in ids)
    bank = encode_documents(reader, tokenizer(), [("some", text)], tmp_path / "bank", keeping=Keeping(fill="pad"))
    tokens = tokenizer().encode(text, add_special_tokens=False).ids
    padded_GN = torch.tensor(tokens + [0] * (-len(tokens) % (3 * T))).unflatten(0, (-1, 3 * T))
    blank = Copy(blank=True)(padded_GN, T)
    expected = reader(**blank.inputs()).logits[:, 3 * T :].argmax(-1).flatten()[: len(tokens)]
    for batch in (1, 3, 256):
        assert np.concatenate(list(recall(bank, reader, "some", batch))).tolist() == expected.tolist()


def test_a_memory_model_that_reads_words_recalls_as_its_autoencoder(model, tmp_path):
    reader = memory_model(model, "pointer", chunks=3)  # of which no half is a whole number
    bank = encode_documents(reader, tokenizer(), TEXTS.items(), tmp_path / "bank")
    for name in TEXTS:
        one, other = ([i for ids in recall(bank, each, name) for i in ids.tolist()] for each in (reader, model))
        assert one == other


def test_a_score_counts_tokens_and_whole_chunks():
    score = Recalled()
    score.add(np.array([1, 2, 3, 4, 5, 6]), np.array([1, 2, 3, 9, 5, 6]), 2)
    score.add(np.array([7]), np.array([7]), 2)
    assert score.as_json() == {"token_accuracy": 6 / 7, "exact_chunks": 3 / 4, "tokens": 7, "chunks": 4}
    assert Recalled().as_json()["token_accuracy"] == 0


def test_originals_are_found_by_what_they_say(made, model):
    bank = Bank.open(made)
    documents = [Document(f"renamed {name}", [text] if text else []) for name, text in TEXTS.items()]
    found = find_originals(bank.documents, documents, "here")
    for entry in bank.documents:
        score = Recalled()
        text = "".join(recall_text(bank, model, tokenizer(), entry.name, found[entry.sha256], score))
        assert text == TEXTS[entry.name]
        assert (score.tokens, score.right, score.exact) == (entry.tokens, entry.tokens, entry.chunks)
    with pytest.raises(UsageError, match="here does not hold the text that the memories of 'brief'"):
        find_originals(bank.documents[:2], documents[:1], "here")
