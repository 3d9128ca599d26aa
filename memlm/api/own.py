"""Models of ours behind the public interface."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch

from memlm.api.face import Model, Texts, checked_texts
from memlm.bank.bank import Bank
from memlm.bank.confidence import Confidence, confidence
from memlm.bank.encode import encode_documents, encode_texts, origin_of
from memlm.bank.filing import filed
from memlm.bank.kept import Keeping
from memlm.bank.memories import Memories, Origin
from memlm.bank.recall import Checked, decode_texts
from memlm.bank.search import Hit, Metric, by_keys, nearest
from memlm.continuation import Continuation, Streamer, copied_from
from memlm.errors import UsageError
from memlm.models.model import Generative
from memlm.precision import computing
from memlm.tokens.detokenise import TextStream
from memlm.tokens.pieces import Document, cut_pieces
from memlm.tokens.tokenizer import tokenise_pieces, tokens_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from memlm.bank.passages import Passages
    from memlm.models.memory_model import ReadsMemories
    from memlm.models.model import TextMemory
    from memlm.pretrained.copying import Copying

FILED = 1024  # memories of a bank from which on they are filed, where the model's reader can


class OwnModel(Model):
    """A model of ours: what it can do depends on what it was trained for.

    Attributes:
        model: the torch module.
        tokenizer: the one saved beside it; special tokens written out in a text are text to it.
    """

    def __init__(self, name: str, model: "TextMemory", tokenizer: "Tokenizer"):
        super().__init__(name, model.chunk_tokens, model.memory_dim)
        self.model, self.tokenizer = model, tokenizer
        self._origin: tuple[Any, Origin] | None = None
        self._passages: tuple[Bank, Passages] | None = None

    @property
    def origin(self) -> Origin:
        """What its memories are known by; hashed again only where the encoder's weights were written to since.

        Raises:
            UsageError: it forms no memories of single chunks.
        """
        weights = () if self.model.encoder is None else self.model.encoder.state_dict().values()
        written = [(weight.data_ptr(), weight._version) for weight in weights]
        if self._origin is None or self._origin[0] != written:
            self._origin = written, origin_of(self.model, self.tokenizer)
        return self._origin[1]

    def encode(self, texts: Texts, *, batch: int = 256, **keeping: Any) -> Memories:
        """As `Model.encode`; `keeping` is what `memlm.bank.kept.Keeping` takes.

        `dtype` (fp32, bf16, fp16, int8, int4) rounds the numbers, `numbers` keeps the first so many of memories that
        were trained for it, `accuracy=0.99` as few as tell 99 % of a chunk's tokens, and `lossless=True` keeps what the
        decoder gets wrong, so that `decode` gives the texts back exactly. `.bytes` of the memories is what they cost.
        """
        with computing(self.model.device):
            how = Keeping(**keeping)
            return encode_texts(self.model, self.tokenizer, checked_texts(texts), batch, self.origin, how)

    def encode_documents(
        self,
        documents: Iterable[Document | tuple[str, str]],
        out: Path | str,
        *,
        append: bool = False,
        batch: int = 256,
        **keeping: Any,
    ) -> Bank:
        """Encode documents, pairs of a name and a text, into a bank, or one that is there; `keeping` as of `encode`."""
        with computing(self.model.device):
            how = {"append": append, "batch": batch, "keeping": Keeping(**keeping), "model_path": self.name}
            return encode_documents(self.model, self.tokenizer, documents, out, **how)

    def decode(self, memories: Memories | Bank, *, batch: int = 256, check: bool = False) -> list[str]:
        """As `Model.decode`."""
        with computing(self.model.device):
            how = Checked() if check else None
            return decode_texts(self.checked(memories), self.model, self.tokenizer, batch, how)

    def confidence(self, memories: Memories | Bank, *, check: bool = False) -> Confidence:
        """How likely what `decode` gives back is right: of each memory, and of each of its tokens.

        Args:
            memories: as of `decode`.
            check: of what `decode` gives back with it.

        Raises:
            UsageError: as `decode`, or a model that was saved before it could tell.
        """
        with computing(self.model.device):
            return confidence(self.model, self.checked(memories), search=check)

    def search(
        self,
        text: str,
        bank: Bank,
        k: int = 10,
        *,
        by: Literal["vector", "keys"] = "vector",
        metric: Metric = "cosine",
        exact: bool | None = None,
    ) -> list[Hit]:
        """The memories of a bank that are nearest to a text, the nearest first.

        Args:
            text: of several chunks the nearest counts.
            bank: made by this model's encoder.
            k: how many at most.
            by: `vector`, as the text is encoded; `keys`, as a memory model's reader finds what holds its last words.
            metric: of vectors.
            exact: read every memory; if not given, up to a million of them and wherever there is no index.

        Raises:
            UsageError: no text, another encoder's bank, or a reader without keys.
        """
        self._check(bank)
        with computing(self.model.device):
            if by == "keys":
                pieces = tokenise_pieces(self.tokenizer, cut_pieces(checked_texts(text)))
                return by_keys(bank, self.model, np.concatenate([np.empty(0, np.int64), *pieces]), k)
            vectors_QM = self.encode(text).vectors
        if not len(vectors_QM):
            raise UsageError("there is no text to search by: give a word at least.")
        return nearest(bank, vectors_QM, k, metric=metric, exact=exact)

    def go_on(
        self, prompt: str, memories: Memories | Bank | None, stream: Callable[[str], Any] | None, **how: Any
    ) -> Continuation:
        """What `generate` does, with the ids of what follows."""
        given, model = self.reading(memories), cast(Generative, self.model)
        ids_1N = torch.from_numpy(tokens_of(self.tokenizer, checked_texts(prompt)))[None]
        opened: list[Any] = []
        streamer: Any = None if stream is None else Streamer(self.tokenizer, stream)
        with computing(model.device):
            out_1L = model.generate(ids_1N.to(model.device), streamer=streamer, opened=opened, **given, **how)
        new = out_1L[0, ids_1N.shape[1] :].tolist()
        text = TextStream(self.tokenizer).feed(new, last=True)
        before = 0 if memories is None else len(memories)
        return Continuation(text, new, ids_1N.shape[1], before, self.copied(opened, memories))

    def copied(self, opened: list[Any], memories: Memories | Bank | None) -> list[list[tuple[int, float]]] | None:
        """Of each new token the memories that it was copied from, by what its model opened (`copied_from`)."""
        copied = copied_from(opened)
        if copied is None or memories is None or not cast(Generative, self.model).reads_text:
            return copied
        return self.passages(memories).of_bank(copied)

    def reading(self, memories: Memories | Bank | None) -> dict[str, Any]:
        """What `model.generate` is given of memories so that it reads them.

        Raises:
            UsageError: a model that predicts no text or reads no memories, or another encoder's memories.
        """
        model = self.model
        if not isinstance(model, Generative):
            raise UsageError(f"{self.name} does not predict text token by token: name a memory model.")
        if memories is None:
            return {}
        if not model.reads_given_memories:
            raise UsageError(f"{self.name} reads no memories: name a memory model, or leave the memories out.")
        if model.reads_text:
            return {"index": self.passages(memories).index}
        if isinstance(memories, Bank) and model.files_memories and len(memories) >= FILED:
            self._check(memories)
            return {"index": filed(memories, cast("ReadsMemories", model))}
        return {"memories": torch.from_numpy(self.checked(memories).vectors)[None].to(model.device)}

    def passages(self, memories: Memories | Bank) -> "Passages":
        """What a language model of others reads of a bank: the text that its memories recall.

        Raises:
            UsageError: single memories, whose decoder is not known, or what `passages_of` refuses.
        """
        from memlm.bank.passages import passages_of

        if not isinstance(memories, Bank):
            raise UsageError(f"{self.name} reads what a whole bank recalls, and no single memories: give it a bank.")
        if self._passages is None or self._passages[0] is not memories:
            with computing(self.model.device):
                self._passages = memories, passages_of(memories, cast("Copying", self.model), self.tokenizer)
        return self._passages[1]

    def read_before(self, text: str, bank: Bank) -> list[int]:
        """Numbers of the bank's memories in which the passages begin that are read before a text, of `reads_text`."""
        passages, model = self.passages(bank), cast("Copying", self.model)
        ids_N = torch.from_numpy(tokens_of(self.tokenizer, [text]))
        numbers = model.reader.passages(passages.index, ids_N, model.shape.opened, model.shape.segment)
        return [int(passages.memory_K[number]) for number in sorted(numbers)]

    def checked(self, memories: Memories | Bank) -> Memories:
        """Memories that mean to this model what they meant to the one that made them.

        Raises:
            UsageError: another encoder's, or no memories at all.
        """
        if isinstance(memories, Bank):
            self._check(memories)
            return memories.read()
        if not isinstance(memories, Memories):
            raise UsageError(
                f"memories are what encode returns, or a memlm.Bank, not {type(memories).__name__}: only these know "
                "which encoder made them."
            )
        if getattr(self.model, "reads_text", False):
            self.passages(memories)  # which says what it reads
        if memories.origin != self.origin:
            memories.origin.check(self.model, self.tokenizer, "this set of memories")
        return memories

    def _check(self, bank: Bank) -> None:
        if bank.origin != self.origin:
            bank.check_encoder(self.model, self.tokenizer)
