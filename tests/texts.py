"""Documents that the tests make themselves."""

import random
from pathlib import Path

TEXT = (
    "the sea was calm and a cold wind came from north over hills where old men told long stories of ships "
    "lost in winter while children listened by fire to every word until night fell upon their quiet house"
)


def write_documents(folder: Path, count: int = 8, words: int = 1500) -> Path:
    """Documents of random words: enough structure for a tokenizer, the same for every test."""
    rng, known = random.Random(0), TEXT.split()
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        lines = [" ".join(rng.choices(known, k=12)) for _ in range(words // 12)]
        (folder / f"document-{i}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder
