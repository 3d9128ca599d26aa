"""A small corpus that the tests make themselves, prepared once a session."""

import random
from pathlib import Path

import pytest

from memlm.cpu import tune_cpu

tune_cpu()  # as every run does, before any thread is made: what is trained here equals what a process trains

WORDS = [
    "the",
    "sea",
    "was",
    "calm",
    "and",
    "a",
    "cold",
    "wind",
    "came",
    "from",
    "north",
    "over",
    "hills",
    "where",
    "old",
    "men",
    "told",
    "long",
    "stories",
    "of",
    "ships",
    "lost",
    "in",
    "winter",
    "while",
    "children",
    "listened",
    "by",
    "fire",
    "to",
    "every",
    "word",
    "until",
    "night",
    "fell",
    "upon",
    "their",
    "quiet",
    "house",
]


def write_documents(folder: Path, count: int = 8, words: int = 1500) -> Path:
    """Documents of random words: enough structure for a tokenizer, the same for every test."""
    rng = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        lines = [" ".join(rng.choices(WORDS, k=12)) for _ in range(words // 12)]
        (folder / f"document-{i}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A prepared data set: vocabulary 300, eight documents, some held out."""
    from memlm.data.prepare import Prepare, prepare

    place = tmp_path_factory.mktemp("corpus")
    source = write_documents(place / "source")
    prepare(Prepare(source=str(source), out=place / "data", vocab_size=300, valid_fraction=0.25))
    return place / "data"
