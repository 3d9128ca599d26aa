"""What a memory costs and what comes back of it: by the type and number of its numbers, as it is decoded and as a
recall that checks itself tells it, beside the same text in other forms. Asked: at most 0.1 points of tokens lost at
int8 and 0.5 at int4; every size of a nested memory within 0.5 points of one trained for it; AUROC of 0.95 and less than
2 points of calibration error.
"""

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from memlm import ui
from memlm.bank.check import tell
from memlm.bank.confidence import of_told
from memlm.bank.keep import keep
from memlm.bank.kept import Keeping, Stored, cut, rounded, row_bytes
from memlm.bank.memories import Kept
from memlm.bench.form import Options, Report
from memlm.data.corpus import Corpus
from memlm.loading import load_model
from memlm.measure.calibration import auroc, calibration_error
from memlm.measure.intervals import independent, share_over_seeds, units_of
from memlm.models.model import TextMemory
from memlm.nn.compiled import Encoding
from memlm.presets import preset
from memlm.train.config import TrainConfig
from memlm.train.table import train_table

SEEDS = 3
CHUNKS = 2048  # of the part test
RUNS = Path("runs/kept")
LOSSLESS = {
    "int4, as few numbers as tell all tokens": Keeping(dtype="int4", accuracy=1.0),
    "int4, lossless": Keeping(dtype="int4", lossless=True),
    "int4, as few numbers as tell 90 %, lossless": Keeping(dtype="int4", accuracy=0.9, lossless=True),
}


def named() -> dict[str, TrainConfig]:
    """64 tokens in 256 numbers; 16 in nested ones, and in as many as each size has, for themselves."""
    nested = preset("slots-nested")
    M = nested.model.memory_dim
    alone = {size: replace(nested.model, memory_dim=size, bridge="slots") for size in (M // 4, M // 2, M)}
    third = {f"alone-{size}": replace(nested, model=model, batch=nested.batch // 3) for size, model in alone.items()}
    return {"slots": preset("slots"), "slots-nested": nested, **third}


def run(options: Options, *, seeds: int = SEEDS, chunks: int = CHUNKS, scale: float = 1.0, runs: Path = RUNS) -> Report:
    """Train what is not there yet; decode the chunks of test from memories of every form."""
    corpus = options.corpus()
    report = Report(
        name="kept",
        columns=(
            *("model", "kept as", "numbers", "bytes", "characters a byte", "tokens right, %", "95 %"),
            *("chunks right, %", "checked: tokens, %", "checked: chunks, %", "AUROC", "calibration error, points"),
            *("AUROC of tokens", "calibration error of tokens, points"),
        ),
        setting=(
            f"part test, {chunks:,} chunks at most, {seeds} seeds of the models, data {corpus.hash[:12]} (vocabulary "
            f"{corpus.vocab_size}); bytes and characters of a chunk on average; AUROC and calibration error of whole "
            "chunks and of tokens, as they are decoded; slots-nested has three times the batch of those trained for "
            "one size alone"
        ),
        told={"seeds": seeds, "part": "test"},
    )
    folders = [runs / f"{corpus.hash[:8]}-{scale:g}-seed{seed}" for seed in range(seeds)]
    for seed, folder in enumerate(folders):
        train_table(named(), folder, data=options.data, seed=seed, scale=scale)
    found: dict[tuple[str, str, int], Form] = {}
    for name, config in named().items():
        tokens_NT, documents_N = corpus.chunks("test", config.model.chunk_tokens, chunks)
        characters = float(np.mean([len(text) for text in corpus.tokenizer.decode_batch(tokens_NT.tolist())]))
        models = [load_model(folder / name).requires_grad_(False) for folder in folders]
        ui.say(f"kept: {name}")
        for form in _forms(models, tokens_NT.astype(np.int64)):
            report.rows.append((name, *form.cells(characters, units_of(documents_N))))
            found[name, form.kept_as, int(form.numbers)] = form
    M = preset("slots").model.memory_dim
    for dtype, asked in (("int8", 0.1), ("int4", 0.5)):
        for name in ("slots", "slots-nested"):
            lost = np.mean(found[name, "fp32", M].checked) - np.mean(found[name, dtype, M].checked)
            report.ratios[f"{name}: points of tokens lost at {dtype}, checked (at most {asked})"] = 100 * float(lost)
    for size in (M // 4, M // 2, M):
        behind = np.mean(found[f"alone-{size}", "fp32", size].same) - np.mean(found["slots-nested", "fp32", size].same)
        report.ratios[f"slots-nested, first {size}: points behind one trained for it (at most 0.5)"] = 100 * float(
            behind
        )
    told = [form for form in found.values() if form.error is not None]
    if curves := [form.curve for form in told if form.curve is not None]:
        report.ratios["AUROC, the least (at least 0.95)"] = min(curves)
    report.ratios["calibration error of chunks, points, the most (below 2)"] = max(form.error or 0 for form in told)
    report.ratios["calibration error of tokens, points, the most (below 2)"] = max(f.of_tokens[1] or 0 for f in told)
    agreeing, deceived = (sum(getattr(form, name) for form in told) for name in ("agreeing", "deceived"))
    report.notes.append(
        f"of {agreeing:,} memories that the recalled tokens encode to, {deceived:,} were of other tokens"
    )
    report.notes += [f"{what}: {value:.2f} characters a byte" for what, value in _others(corpus, chunks)]
    return report


class Form(NamedTuple):
    """What comes back of memories that are kept in one way, for each seed of the model.

    `same` and `checked` tell which tokens are right [N, T], as they are decoded and by a recall that checks itself.
    """

    kept_as: str
    numbers: float
    size: float
    same: list[np.ndarray]
    checked: list[np.ndarray]
    curve: float | None = None  # AUROC of chunks
    error: float | None = None  # calibration error of chunks, in points
    of_tokens: tuple[float | None, float | None] = (None, None)  # the same of tokens
    agreeing: int = 0  # memories that the recalled tokens encode to
    deceived: int = 0  # of these, whose tokens are others

    def cells(self, characters: float, units_N: np.ndarray) -> tuple[Any, ...]:
        """A row of the table."""
        share_SN = np.stack([one.mean(1) for one in self.same])
        span = [100 * x for x in share_over_seeds(share_SN, independent(share_SN.mean(0), units_N))]
        shares = [[np.mean(of), np.mean([one.all(1) for one in of])] for of in (self.same, self.checked)]
        (tokens, whole), checked = ([100 * float(x) for x in some] for some in shares)
        told = ["" if x is None else x for x in (self.curve, self.error, *self.of_tokens)]
        return (self.kept_as, self.numbers, self.size, characters / self.size, tokens, span, whole, *checked, *told)


def _forms(models: Sequence[TextMemory], tokens_NT: np.ndarray) -> Iterator[Form]:
    """Every size in every type, then with what makes it exact, over the models of all seeds."""
    memories, held_N = (
        [Encoding(model).memories(tokens_NT) for model in models],
        np.full(len(tokens_NT), tokens_NT.shape[1]),
    )
    for size, dtype in product(models[0].memory_sizes, get_args(Stored)):
        numbers_N = np.full(len(tokens_NT), size, np.int32)
        same, checked, agreeing, chunks, tokens = [], [], [], [], []
        for model, memory_NM in zip(models, memories, strict=True):
            vectors_NM, step_NG = rounded(cut(memory_NM, numbers_N), dtype)
            kept = Kept(dtype, "repeat", numbers_N, step_NG)
            told = tell(model, vectors_NM, held_N, kept)
            same.append(told.ids == tokens_NT)
            searched = tell(model, vectors_NM, held_N, kept, search=True)
            checked.append(searched.ids == tokens_NT)
            agreeing.append(checked[-1].all(1)[searched.agrees])
            sure = of_told(model, told, kept)
            chunks.append((sure.memories, same[-1].all(1)))
            tokens.append((sure.tokens.ravel(), same[-1].ravel()))
        right_A = np.concatenate(agreeing)
        seen = len(right_A), int((~right_A).sum())
        yield Form(dtype, size, row_bytes(dtype, size), same, checked, *_judged(chunks), _judged(tokens), *seen)
    for kept_as, keeping in LOSSLESS.items():
        if keeping.accuracy and len(models[0].memory_sizes) == 1:
            continue
        same, sizes, numbers = [], [], []
        for model, memory_NM in zip(models, memories, strict=True):
            cut_NM, numbers_N, wrong = keep(model, keeping, memory_NM, tokens_NT, held_N)
            vectors_NM, step_NG = rounded(cut_NM, "int4")
            kept = Kept("int4", "repeat", numbers_N, step_NG, tuple(wrong) if keeping.lossless else None)
            same.append(tell(model, vectors_NM, held_N, kept).ids == tokens_NT)
            sizes.append(kept.bytes / len(tokens_NT))
            numbers.append(numbers_N.mean())
        yield Form(kept_as, float(np.mean(numbers)), float(np.mean(sizes)), same, same)


def _judged(told: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float | None, float]:
    """AUROC and calibration error in points of probabilities and what was right, in the mean over seeds."""
    known = [found for p_N, right_N in told if (found := auroc(p_N, right_N)) is not None]
    return float(np.mean(known)) if known else None, 100 * float(np.mean([calibration_error(*one) for one in told]))


def _others(corpus: Corpus, chunks: int) -> Iterator[tuple[str, float]]:
    """The text of chunks of 64 tokens in other forms, and how many characters a byte of each holds."""
    tokens_NT, _ = corpus.chunks("test", 64, chunks)
    texts = corpus.tokenizer.decode_batch(tokens_NT.tolist())
    characters, plain = sum(map(len, texts)), [text.encode() for text in texts]
    yield "the text in UTF-8", characters / sum(map(len, plain))
    bits = int(np.ceil(np.log2(corpus.vocab_size)))
    yield f"token ids of {bits} bits", characters / (tokens_NT.size * bits / 8)
    yield "gzip, each chunk by itself", characters / sum(len(gzip.compress(one, mtime=0)) for one in plain)
    try:
        import zstandard  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        ui.say("zstandard is not installed, so its rows are left out: pip install zstandard")
        return
    train_NT, _ = corpus.chunks("train", 64, 20_000)
    known = [text.encode() for text in corpus.tokenizer.decode_batch(train_NT.tolist())]
    packer = zstandard.ZstdCompressor(level=19, dict_data=zstandard.train_dictionary(2**17, known))
    size = sum(len(packer.compress(one)) for one in plain)
    yield "zstd 19 with a dictionary of 128 KiB of the part train, each chunk by itself", characters / size
    whole = zstandard.ZstdCompressor(level=19).compress(b"".join(plain))
    yield "zstd 19 of all of them together, which no single one is read from", characters / len(whole)
