"""What is done with served models, through the public interface; each function takes what several requests ask."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from memlm.api.face import Model
from memlm.api.load import load
from memlm.bank.bank import Bank
from memlm.bank.check import tell
from memlm.bank.decoder import likeliest, own_decoder
from memlm.bank.kept import correct
from memlm.bank.memories import Memories
from memlm.bank.search import as_texts
from memlm.errors import UsageError
from memlm.precision import computing
from memlm.serve.config import Serving
from memlm.tokens.detokenise import TextStream
from memlm.tokens.tokenizer import tokens_of

if TYPE_CHECKING:
    from memlm.api.own import OwnModel


@dataclass(frozen=True, eq=False)
class Served:
    """A model by the name that clients give.

    Attributes:
        name: the last part of what it was loaded by, unless two have the same.
        model: as `memlm.load` gives it.
    """

    name: str
    model: Model

    @cached_property
    def own(self) -> "OwnModel | None":
        """The same, if it is a model of ours."""
        return (
            cast("OwnModel", self.model) if hasattr(self.model, "go_on") and hasattr(self.model, "tokenizer") else None
        )

    @cached_property
    def can(self) -> dict[str, bool]:
        """What can be asked of it: to encode, recall, generate, read memories, file those of a bank."""
        own = None if self.own is None else self.own.model
        try:
            recalls = own is not None and own_decoder(own) is not None
        except UsageError:
            recalls = False
        return {
            "encode": own is None or (own.forms_memories and own.of_one_chunk),
            "recall": recalls,
            "generate": hasattr(own, "most_tokens"),
            "read": own is not None and own.reads_own_memories,
            "file": getattr(own, "files_memories", False),
        }

    @cached_property
    def stream(self) -> TextStream:
        """Ids -> text, token by token; making one reads the whole vocabulary."""
        assert self.own is not None
        return TextStream(self.own.tokenizer)

    def pieces(self, ids: list[int]) -> list[str]:
        """The text of each token; a character that several make is the last one's."""
        found = [self.stream.feed([i]) for i in ids]
        return [*found[:-1], found[-1] + self.stream.feed([], last=True)] if found else []

    def ids(self, text: str) -> list[int]:
        """A text's tokens."""
        assert self.own is not None
        return tokens_of(self.own.tokenizer, [text]).tolist()


def load_all(serving: Serving) -> dict[str, Served]:
    """All models, by name.

    Raises:
        UsageError: one is not there, or named twice.
    """
    told = [name.rstrip("/") for name in serving.models]
    if len(set(told)) < len(told):
        raise UsageError("a model is named twice: name each once.")
    short = [name.rpartition("/")[2] for name in told]
    names = [last if short.count(last) == 1 else name for name, last in zip(told, short, strict=True)]
    return {name: Served(name, load(path, device=serving.device)) for name, path in zip(names, told, strict=True)}


def encode(served: Served, asked: list[tuple[str, ...]]) -> list[Memories]:
    """Memories of the texts of several requests, in one call."""
    together, first, found = served.model.encode([text for texts in asked for text in texts]), 0, []
    for texts in asked:
        last = first + len(texts)
        some = together.rows(slice(*np.searchsorted(together.chunks[:, 0], [first, last])))
        found.append(replace(some, chunks=some.chunks - np.array([first, 0, 0], np.int32), texts=texts))
        first = last
    return found


class Recall(NamedTuple):
    """What a request of /recall asks: memories, or a text that becomes some; what is left of them."""

    of: Memories | str
    keep: int | None
    bits: int | None
    noise: float
    seed: int
    check: bool
    tokens: bool
    most: int


def recall(served: Served, asked: list[Recall]) -> list[dict[str, Any]]:
    """The texts that memories hold, those of all requests decoded together; how sure the decoder is of each token."""
    own = served.own
    if own is None:
        served.model.decode(cast(Memories, None))  # which says that models of others decode nothing
        raise AssertionError
    texts = [one.of for one in asked if isinstance(one.of, str)]
    encoded = iter(encode(served, [(text,) for text in texts]) if texts else [])
    memories = [next(encoded) if isinstance(one.of, str) else one.of for one in asked]
    for some, one in zip(memories, asked, strict=True):
        if len(some) > one.most:
            raise UsageError(f"these are {len(some):,} memories of {one.most:,}: ask for less.")
    changed = [changed_memories(own.checked(some), one) for some, one in zip(memories, asked, strict=True)]
    with computing(own.model.device):
        ids_KT1, log_KT1 = likeliest(own.model, np.concatenate([some.vectors for some in changed]))
    ids_KT, sure_KT = ids_KT1[..., 0], np.exp(log_KT1[..., 0])
    answers, first = [], 0
    for some, one in zip(changed, asked, strict=True):
        rows, first = slice(first, first + len(some)), first + len(some)
        agrees: list[bool] = []
        if one.check:
            with computing(own.model.device):
                found = tell(own.model, some.vectors, some.chunks[:, 2], some.as_kept, search=True)
            ids_KT[rows], sure_KT[rows], agrees = found.ids, 1 / (1 + np.exp(-found.sure)), found.agrees.tolist()
        elif some.kept is not None and some.kept.corrections is not None:
            ids_KT[rows] = correct(ids_KT[rows], some.kept.corrections)
        chunks = [ids[:n] for ids, n in zip(ids_KT[rows].tolist(), some.chunks[:, 2].tolist(), strict=True)]
        whole = [[i for ids in chunks[some.span(n)] for i in ids] for n in range(len(some.texts))]
        told: dict[str, Any] = {"texts": ["".join(served.pieces(ids)) for ids in whole]}
        if one.tokens:
            true = served.ids(one.of) if isinstance(one.of, str) else None
            told["chunks"] = _tokens(served, chunks, sure_KT[rows], some.vectors, true, some.origin.chunk_tokens)
            for chunk, agreeing in zip(told["chunks"], agrees, strict=False):
                chunk["agrees"] = agreeing
        elif one.check:
            told["agrees"] = agrees
        answers.append(told)
    return answers


def changed_memories(memories: Memories, how: Recall) -> Memories:
    """Memories with less in them: noise, then fewer bits (one scale a memory), then fewer numbers."""
    if not how.noise and how.bits is None and how.keep is None:
        return memories
    vectors_KM, kept = memories.vectors.copy(), replace(memories.as_kept, dtype="fp32", steps=None)
    rms_K1 = np.sqrt((vectors_KM**2).mean(1, keepdims=True))
    if how.noise:
        vectors_KM += how.noise * rms_K1 * np.random.default_rng(how.seed).standard_normal(vectors_KM.shape, np.float32)
    if how.bits == 1:
        vectors_KM = np.sign(vectors_KM) * np.abs(vectors_KM).mean(1, keepdims=True)
    elif how.bits is not None and len(vectors_KM):
        scale_K1 = np.maximum(np.abs(vectors_KM).max(1, keepdims=True) / (2 ** (how.bits - 1) - 1), 1e-12)
        vectors_KM, kept = np.round(vectors_KM / scale_K1) * scale_K1, replace(kept, dtype="int8", steps=scale_K1)
    if how.keep is not None:
        vectors_KM[:, how.keep :] = 0
        kept = replace(kept, numbers=np.minimum(kept.numbers, how.keep))
    return replace(memories, vectors=vectors_KM, kept=kept)


def _tokens(
    served: Served,
    chunks: list[list[int]],
    sure_KT: np.ndarray,
    vectors_KM: np.ndarray,
    true: list[int] | None,
    T: int,
) -> list[dict[str, Any]]:
    """Each chunk's vector and tokens: as recalled, how surely, and, where the text is known, as it was."""
    told = []
    for number, ids in enumerate(chunks):
        was = None if true is None else true[number * T : (number + 1) * T]
        rows = zip(served.pieces(ids), sure_KT[number].tolist(), strict=False)
        tokens: list[dict[str, Any]] = [{"token": piece, "sure": round(sure, 4)} for piece, sure in rows]
        if was is not None:
            for token, found, i, piece in zip(tokens, ids, was, served.pieces(was), strict=True):
                token |= {"right": found == i, "was": piece}
        told.append({"vector": [round(x, 4) for x in vectors_KM[number].tolist()], "tokens": tokens})
    return told


def search(served: Served, bank: Bank, asked: list[tuple[str, int, str]]) -> list[list[dict[str, Any]]]:
    """Of each request the nearest memories of a bank, and what they hold."""
    assert served.own is not None
    answers = []
    for text, k, by in asked:
        hits = served.own.search(text, bank, k, by=cast(Any, by))
        texts = served.own.decode(as_texts(bank, hits)) if served.can["recall"] and hits else [None] * len(hits)
        rows = zip(hits, texts, strict=True)
        answers.append([{**dict(zip(hit._fields[:4], hit[:4], strict=True)), "text": held} for hit, held in rows])
    return answers


def reader_of(bank: Bank, models: dict[str, Served]) -> Served:
    """A served model that reads a bank.

    Raises:
        UsageError: the bank is of none of them; why, of the first.
    """
    why: UsageError | None = None
    for served in models.values():
        try:
            if served.own is not None and served.can["encode"]:
                bank.check_encoder(served.own.model, served.own.tokenizer)
                return served
        except UsageError as error:
            why = why or error
    raise why or UsageError(f"none of these models makes memories of its own, as {bank.path} needs.")
