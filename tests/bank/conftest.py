"""A bank of some texts, and the autoencoder that made it."""

from pathlib import Path

import pytest
from banks import TEXTS, autoencoder, tokenizer

from memlm.bank.encode import encode_documents


@pytest.fixture(scope="module")
def model():
    return autoencoder()


@pytest.fixture(scope="module")
def made(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("banks") / "bank"
    encode_documents(model, tokenizer(), TEXTS.items(), path, batch=7)
    return path
