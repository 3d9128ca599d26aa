"""Memories -> the tokens that they hold, by a model's own decoder, and how many of them are right.

No token is told to the decoder: what comes out was in the memories. A memory model has a decoder of one memory if it
reads soft tokens; else it recalls as in its blank copy (paper, Objectives), half of a training example at a time, and
well only where it was trained to.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from memlm.bank.bank import Bank, Entry
from memlm.bank.chunks import DocumentText, read_chunks
from memlm.bank.kept import correct, padded
from memlm.bank.memories import Memories
from memlm.errors import UsageError
from memlm.models.model import TextMemory
from memlm.nn.vocabulary import PAD
from memlm.tokens.detokenise import TextStream
from memlm.tokens.pieces import Document

if TYPE_CHECKING:
    from tokenizers import Tokenizer


MARGIN = 1e-2  # of logits


class Decoder(NamedTuple):
    """What turns a model's memories back into text.

    Args:
        decode: memories [B, M] -> logits [B, T, V].
        together: how many consecutive memories of a text are decoded as one; 1: each by itself.
        by: how, in words.
    """

    decode: Callable[[Tensor], Tensor]
    together: int
    by: str


def own_decoder(model: TextMemory) -> Decoder:
    """A model's own way from memories to text.

    Raises:
        UsageError: the model has none.
    """
    if (decode := model.recall) is not None:
        return Decoder(decode, 1, "decoder")
    if model.reads_given_memories and _half(model):
        return Decoder(lambda memory_BM: _blank_copy(model, memory_BM), _half(model), "blank copy")
    raise UsageError(
        "this model has no decoder that turns its memories back into text: name with --model an autoencoder with the "
        "same encoder."
    )


@torch.inference_mode()
def recalled(model: TextMemory, vectors_KM: np.ndarray, batch: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that memories hold, int64 [K, T], by a decoder of single ones, and of which it is sure, bool [K, T].

    It is sure where no other token is within `MARGIN`, so that another machine's rounding does not change it.
    """
    decode, ids, sure = own_decoder(model).decode, [], []
    for start in range(0, len(vectors_KM), batch):
        best = _decoded(decode, model, vectors_KM[start : start + batch]).topk(2, -1)
        ids.append(best.indices[..., 0].cpu().numpy())
        sure.append((best.values[..., 0] - best.values[..., 1] > MARGIN).cpu().numpy())
    empty_0T = np.empty((0, model.chunk_tokens), np.int64)
    return np.concatenate(ids or [empty_0T]), np.concatenate(sure or [empty_0T.astype(bool)])


def _decoded(decode: Callable[[Tensor], Tensor], model: TextMemory, vectors_KM: np.ndarray) -> Tensor:
    """Logits [K, T, V]; of a model with nested memories these may be cut to any of their sizes."""
    return decode(torch.from_numpy(np.ascontiguousarray(padded(vectors_KM, model.memory_dim))).to(model.device))


@torch.inference_mode()
def decode_ids(memories: Memories, model: TextMemory, batch: int = 256) -> Iterator[np.ndarray]:
    """The tokens of consecutive memories as they are decoded, with their corrections: int64 [n, T] at a time.

    Raises:
        UsageError: the model has no decoder of memories.
    """
    decode, together, _ = own_decoder(model)
    batch = -(-batch // together) * together
    wrong = None if memories.kept is None else memories.kept.corrections
    for start in range(0, len(memories), batch):
        ids_BT = _decoded(decode, model, memories.vectors[start : start + batch]).argmax(-1).cpu().numpy()
        yield ids_BT if wrong is None else correct(ids_BT, wrong[start : start + batch])


def recall(bank: Bank, model: TextMemory, document: str | int, batch: int = 256) -> Iterator[np.ndarray]:
    """The token ids that a document's memories hold: int64 [n] at a time, some chunks' each, padding left out.

    Raises:
        UsageError: the model made no such memories or has no decoder of them, or the bank is damaged.
    """
    batch = -(-batch // own_decoder(model).together) * own_decoder(model).together
    entry = bank.documents[bank.find(document) if isinstance(document, str) else document]
    left = entry.tokens
    for start in range(0, entry.chunks, batch):
        for ids_nT in decode_ids(bank.part(document, start, start + batch), model, batch):
            ids_N = ids_nT.flatten()[:left]
            left -= len(ids_N)
            yield ids_N


def decode_texts(memories: Memories, model: TextMemory, tokenizer: "Tokenizer", batch: int = 256) -> list[str]:
    """The texts that memories hold, those of many short texts decoded together.

    Raises:
        UsageError: the model has no decoder of memories.
    """
    texts = range(len(memories.texts))
    alone = own_decoder(model).together == 1
    parts = [
        ids for some in ([memories] if alone else map(memories.of, texts)) for ids in decode_ids(some, model, batch)
    ]
    ids_KT, text = np.concatenate(parts) if parts else np.empty((0, 1), np.int64), TextStream(tokenizer)
    spans = [memories.span(number) for number in texts]
    held = [int(memories.chunks[span, 2].sum()) for span in spans]
    return [text.feed(ids_KT[s].flatten()[:tokens].tolist(), last=True) for s, tokens in zip(spans, held, strict=True)]


def recall_text(
    bank: Bank,
    model: TextMemory,
    tokenizer: "Tokenizer",
    document: str | int,
    original: Document | None = None,
    score: "Recalled | None" = None,
) -> Iterator[str]:
    """The text that a document's memories hold, as it is recalled.

    Args:
        bank: made by the model's encoder.
        model: one with a decoder of memories.
        tokenizer: the model's own.
        document: its name or number in the bank.
        original: the text that the memories are of, to count in `score` what is right.
        score: counts while the text is taken.

    Raises:
        UsageError: as `recall`.
    """
    T, text = bank.meta.chunk_tokens, TextStream(tokenizer)
    ids = None if original is None else _OriginalIds(tokenizer, original, T)
    for ids_N in recall(bank, model, document):
        if ids is not None and score is not None:
            score.add(ids_N, ids.take(len(ids_N)), T)
        yield text.feed(ids_N.tolist())
    yield text.feed([], last=True)


@dataclass
class Recalled:
    """How much of a text came back."""

    tokens: int = 0
    right: int = 0
    chunks: int = 0
    exact: int = 0  # chunks that are right in every token

    def add(self, recalled_N: np.ndarray, original_N: np.ndarray, chunk_tokens: int) -> None:
        """Count consecutive chunks, of which the last may hold fewer tokens."""
        same_N = recalled_N == original_N
        starts = np.arange(0, len(same_N), chunk_tokens)
        self.tokens += len(same_N)
        self.right += int(same_N.sum())
        self.chunks += len(starts)
        self.exact += int(np.logical_and.reduceat(same_N, starts).sum()) if len(starts) else 0

    def as_json(self) -> dict[str, float]:
        """Shares of tokens and of whole chunks, and of how many."""
        return {
            "token_accuracy": self.right / max(1, self.tokens),
            "exact_chunks": self.exact / max(1, self.chunks),
            "tokens": self.tokens,
            "chunks": self.chunks,
        }


def find_originals(entries: Iterable[Entry], documents: Iterable[Document], where: str) -> dict[str, Document]:
    """The documents that a bank was made from, by SHA-256, whatever they are called now.

    Args:
        entries: what has to be found.
        documents: where to look; each is read once, and the right ones can be read again.
        where: what the documents are called in a refusal.

    Raises:
        UsageError: one of them is not there.
    """
    wanted = {entry.sha256: entry.name for entry in entries}
    found = {}
    for document in documents:
        text = DocumentText(document.name)
        for piece in document.pieces:
            text.add(piece)
        if text.sha256() in wanted:
            found[text.sha256()] = document
    if absent := [name for sha256, name in wanted.items() if sha256 not in found]:
        raise UsageError(f"{where} does not hold the text that the memories of {absent[0]!r} are of, or has changed.")
    return found


class _OriginalIds:
    """A document's token ids as they were encoded, taken as many at a time as are wanted."""

    def __init__(self, tokenizer: "Tokenizer", document: Document, chunk_tokens: int):
        self._blocks = (ids_nT.flatten() for ids_nT, *_ in read_chunks(tokenizer, [document], chunk_tokens))
        self._rest = np.empty(0, np.int64)

    def take(self, count: int) -> np.ndarray:
        """The next `count` ids; the document has them."""
        while len(self._rest) < count:
            self._rest = np.concatenate([self._rest, next(self._blocks)])
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken


def _half(model: TextMemory) -> int:
    """H, the chunks that a copy repeats: half of a training example."""
    return model.config.read_shape().chunks // 2


def _blank_copy(model: TextMemory, memory_BM: Tensor) -> Tensor:
    """Memories of consecutive chunks [B, M] -> logits [B, T, V], H chunks to an example.

    What is missing to a whole example is filled with memories of empty chunks.
    """
    H, T, B = _half(model), model.chunk_tokens, len(memory_BM)
    empty_1M = model.encode(torch.full((1, T), PAD, device=memory_BM.device))
    groups_GHM = torch.cat([memory_BM, empty_1M.expand(-B % H, -1)]).unflatten(0, (-1, H))
    blanks_GN = torch.full((len(groups_GHM), H * T), PAD, device=memory_BM.device)
    marks_GH = torch.ones(len(groups_GHM), H, dtype=torch.bool, device=memory_BM.device)
    logits_GNV = model(input_ids=blanks_GN, marks=marks_GH, memories=groups_GHM).logits
    return logits_GNV.unflatten(1, (H, T)).flatten(0, 1)[:B]
