"""Which memories of a bank are nearest: by vector, exactly or through an index, or by the keys of a reader that finds.

exact   every memory is read, some thousands at a time, and scored against each query; the best k are kept
index   from a million memories on, where `compact_bank` has made one: lists of near memories (Lance's IVF), of which
        the best are read and scored exactly
keys    those that hold the words before which the text ends, as the model's reader would open them
"""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np
import torch

from memlm.bank.bank import Bank
from memlm.bank.filing import filed
from memlm.bank.memories import Kept, Memories
from memlm.bank.rows import as_memories, numbers_of
from memlm.bank.writing import SCANNED
from memlm.errors import UsageError
from memlm.ranges import Count, refuse_outside

if TYPE_CHECKING:
    import pyarrow as pa

    from memlm.models.memory_model import ReadsMemories
    from memlm.models.model import TextMemory

Metric = Literal["cosine", "dot"]
_BLOCK = 2**13  # memories that are scored at a time


class Hit(NamedTuple):
    """A memory that was found: of which document, its number there, tokens held, how near, and itself, float32 [M], of
    how many numbers, with its corrections where the bank is lossless.
    """

    document: str
    chunk: int
    tokens: int
    score: float
    memory: np.ndarray
    numbers: int
    corrections: bytes | None = None


def nearest(
    bank: Bank, query_QM: np.ndarray, k: int = 10, *, metric: Metric = "cosine", exact: bool | None = None
) -> list[Hit]:
    """The memories nearest to any of some vectors, the nearest first.

    Args:
        bank: of the encoder that made the vectors.
        query_QM: float32, one vector or several.
        k: how many.
        metric: the cosine of the angle, or the dot product.
        exact: read every memory; if not given, up to a million of them and wherever there is no index for it.

    Raises:
        UsageError: vectors of another length, or a bank that is damaged.
    """
    query_QM = np.atleast_2d(np.asarray(query_QM, np.float32))
    refuse_outside("k", Count, k)
    if query_QM.shape[1] != bank.meta.memory_dim:
        raise UsageError(f"the bank's memories are of {bank.meta.memory_dim} numbers, not {query_QM.shape[1]}.")
    if exact is None:
        exact = metric != "cosine" or len(bank.table) <= SCANNED or not bank.table.indexed
    rows = _scanned(bank, query_QM, k, metric) if exact else _indexed(bank, query_QM, k)
    hits = _hits(bank, rows, _scores(bank, rows, query_QM, metric).tolist())
    return sorted(hits, key=lambda hit: -hit.score)[:k]


def by_keys(bank: Bank, model: "TextMemory", ids_N: np.ndarray, k: int = 10) -> list[Hit]:
    """The memories that a model's reader would open after a text: those that hold the words before its end.

    Args:
        bank: of the model's encoder; it is filed for the reader, once.
        model: one whose reader files memories.
        ids_N: the text's tokens.
        k: how many at most; a memory without the last word of the text is none.

    Raises:
        UsageError: the model has no such reader, or there is no text.
    """
    if not getattr(model, "files_memories", False):
        raise UsageError("this model's reader has no keys of words: search by its vectors, or name a model `memory`.")
    if not len(ids_N):
        raise UsageError("there is no text to search by: give a word at least.")
    reader: Any = cast("ReadsMemories", model).reader
    found = reader.find(filed(bank, cast("ReadsMemories", model)), torch.from_numpy(np.asarray(ids_N, np.int64)), k)
    return _hits(bank, bank.table.take([bank.row(number) for number, _ in found]), [score for _, score in found])


def as_texts(bank: Bank, hits: list[Hit]) -> Memories:
    """What was found, each memory as a text of its own."""
    vectors = np.stack([hit.memory for hit in hits]) if hits else np.empty((0, bank.meta.memory_dim), np.float32)
    chunks = np.array([[n, 0, hit.tokens] for n, hit in enumerate(hits)], np.int32).reshape(-1, 3)
    corrections = tuple(hit.corrections or b"" for hit in hits) if bank.meta.lossless else None
    numbers = np.array([hit.numbers for hit in hits], np.int32)
    return Memories(
        vectors,
        chunks,
        (None,) * len(hits),
        bank.origin,
        Kept(bank.meta.dtype, bank.meta.fill, numbers, None, corrections),
    )


def _hits(bank: Bank, rows: "pa.Table", scores: list[float]) -> list[Hit]:
    form, columns = bank.meta.form, [rows[name].to_pylist() for name in ("document", "chunk", "tokens")]
    wrong = rows["corrections"].to_pylist() if form.lossless else [None] * len(rows)
    held = as_memories(rows, form), numbers_of(rows, form).tolist()
    return [Hit(*told) for told in zip(*columns, scores, *held, wrong, strict=True)]


def _scanned(bank: Bank, query_QM: np.ndarray, k: int, metric: Metric) -> "pa.Table":
    """The k best rows of all, read once."""
    best_k, row_k, first = np.empty(0, np.float32), np.empty(0, np.int64), 0
    columns = [name for name in bank.table.fields.names if name in ("memory", "numbers", "scale", "tokens")]
    for rows in bank.table.blocks(columns, _BLOCK):
        score_n = np.where(rows["tokens"].to_numpy() > 0, _scores(bank, rows, query_QM, metric), -np.inf)
        score, row = np.concatenate([best_k, score_n]), np.concatenate([row_k, np.arange(first, first + len(rows))])
        some = np.argpartition(-score, k - 1)[:k] if len(score) > k else np.arange(len(score))
        best_k, row_k, first = score[some], row[some], first + len(rows)
    return bank.table.take(np.sort(row_k[np.isfinite(best_k)]).tolist())


def _indexed(bank: Bank, query_QM: np.ndarray, k: int) -> "pa.Table":
    """About the k rows nearest to each query; a row that is near to two stands there once."""
    import pyarrow as pa

    rows = pa.concat_tables([bank.table.nearest(query_M[: bank.meta.form.numbers], k) for query_M in query_QM])
    places = list(zip(rows["document"].to_pylist(), rows["chunk"].to_pylist(), strict=True))
    return rows.take(list({place: n for n, place in enumerate(places)}.values()))


def _scores(bank: Bank, rows: "pa.Table", query_QM: np.ndarray, metric: Metric) -> np.ndarray:
    """Of each memory, to the query that it is nearest to: float32 [K]; its own numbers are compared, of both."""
    memory_KM = as_memories(rows, bank.meta.form)
    score_KQ = memory_KM @ query_QM.T
    if metric == "cosine":
        norm_K = np.sqrt(np.einsum("km,km->k", memory_KM, memory_KM))  # without a copy of all
        norm_QM = np.sqrt(np.cumsum(query_QM**2, 1))
        norm_KQ = norm_QM[:, numbers_of(rows, bank.meta.form) - 1].T * norm_K[:, None]
        score_KQ /= np.maximum(norm_KQ, 1e-30)
    return score_KQ.max(1)
