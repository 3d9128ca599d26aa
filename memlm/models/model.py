"""What all models of ours share: one forward signature, exact save and load, an identity.

What of transformers is used comes through `memlm.huggingface`, so that a new release of it breaks one file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from memlm.decoding.cached import Decoding, Prompt, numbered
from memlm.decoding.generate import generate
from memlm.errors import UsageError
from memlm.huggingface import ModelOutput, PreTrainedConfig, PreTrainedModel, register
from memlm.legacy import modern_shape
from memlm.memory.chunk_decoder import ChunkDecoder
from memlm.memory.encoder import fingerprint
from memlm.models.kind import ModelShape
from memlm.nn.loss import IGNORED, token_loss, weighted
from memlm.nn.vocabulary import END, PAD
from memlm.records import from_dict, to_dict

S = TypeVar("S", bound=ModelShape)


class ShapeConfig(PreTrainedConfig, Generic[S]):
    """A Hugging Face config that is nothing but a vocabulary and one of our shapes."""

    shape_class: ClassVar[type]
    vocab_size: int = 1024
    shape: dict[str, Any] | None = None
    trained_chunks: int | None = None  # of the longest examples that it was trained on; None: it is not known
    confidence: dict[str, Any] | None = None  # how far its decoder can be trusted (bank/confidence.py)

    @classmethod
    def of(cls, shape: S, vocab_size: int) -> "ShapeConfig[S]":
        """The config for `shape` over a vocabulary of `vocab_size` tokens."""
        special: dict[str, Any] = {"pad_token_id": PAD, "bos_token_id": END, "eos_token_id": END}
        return cls(shape=to_dict(shape), vocab_size=vocab_size, **special)

    def read_shape(self) -> S:
        """The shape as the dataclass it was made from."""
        return from_dict(self.shape_class, modern_shape(self.shape or {}, "shape"), "shape")


@dataclass
class MemoryOutput(ModelOutput):
    """What a forward pass gives: `loss` (nats), `logits` [B, N, V], the `memories` [B, K, M] that were read, and which
    of them were `opened` for each place [B, N, k], of readers that choose, and the `shares` copied from each.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    memories: Tensor | None = None
    opened: Tensor | None = None
    shares: Tensor | None = None


class Given(NamedTuple):
    """What a model is to predict, and from what.

    Args:
        ids_BN: token ids, as of `TextMemory.forward`, and so are the next four.
        asked_BN: bool, which predictions are scored, in training; None: all may be.
    """

    ids_BN: Tensor
    marks_BC: Tensor | None
    memory_BKM: Tensor | None
    own_BCM: Tensor | None
    read: bool
    asked_BN: Tensor | None = None


class Predicted(NamedTuple):
    """What a model predicts.

    Args:
        logits: [B, N, V].
        memories: that were read [B, K, M].
        lesson: labels [B, N] -> what training minimises beside their loss, nats [B, N]; None: nothing.
        opened: which of the memories were looked into for each place [B, N, k], of readers that choose.
        shares: how much of the probability is copied from each of these [B, N, k].
    """

    logits: Tensor
    memories: Tensor | None = None
    lesson: Callable[[Tensor], Tensor] | None = None
    opened: Tensor | None = None
    shares: Tensor | None = None


class TextMemory(PreTrainedModel):
    """A model whose `encoder` turns a chunk of token ids into one vector; a baseline that forms none has none.

    A subclass names its shape in its head, makes its parts (`build`), and says what it predicts (`predict`), and what
    tokens a memory holds if it can tell (`recall`).
    """

    main_input_name = "input_ids"
    config_root: ClassVar[type] = ShapeConfig
    memory_dim: int  # M; 0 where none is formed
    chunk_tokens: int  # T
    encoder: Any  # a `MemoryEncoder`; None if it forms no memories
    token_loss = staticmethod(token_loss)  # or the same, compiled
    of_one_chunk = True  # whether a memory is of one chunk alone, not of all before it too

    def __init_subclass__(cls, shape: type[ModelShape] | None = None, causal: bool = False, **kwargs: Any) -> None:
        if shape is not None:  # a config of its own, under which transformers opens it
            names = {"shape_class": shape, "model_type": f"memlm-{shape.kind}", "__module__": cls.__module__}
            config: Any = type(f"{cls.__name__}Config", (cls.config_root,), names)
            cls.config_class = config
            super().__init_subclass__(**kwargs)
            register(config, cls, causal=causal)
        else:
            super().__init_subclass__(**kwargs)

    def __init__(self, config: ShapeConfig[Any]):
        super().__init__(config)
        shape = config.read_shape()
        self.chunk_tokens, self.memory_dim, self.encoder = shape.chunk_tokens, shape.memory_dim, None
        self.build(shape, config.vocab_size)
        self.post_init()

    def build(self, shape: Any, vocab_size: int) -> None:
        """Make the parts of a model of this shape; in an order that stays, since a seed's draws have one."""

    def _init_weights(self, module: nn.Module) -> None:
        """Layers initialise themselves when they are made; nothing to add."""

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
        marks: Tensor | None = None,
        own_rows: int = 0,
        remembered: int = 0,
        memories: Tensor | None = None,
        own_memories: Tensor | None = None,
        read: bool = True,
    ) -> MemoryOutput:
        """Predict tokens; logits stand at the place of the token that they predict, whatever is read to predict it.

        Args:
            input_ids: token ids [B, N], padded at the end with id 0.
            labels: the token ids to score [B, N], -100 where nothing is scored; unshifted.
            weights: what a label counts [B, N]; the mean over the scored ones by default.
            marks: bool [B, C], chunks that shall be answered from memory; none by default. Of later chunks of a text
                alone their numbers among the marked ones in a row (`numbered`).
            own_rows: so many rows at the beginning are an autoencoder's: each chunk is told from its own memory alone.
            remembered: so many chunks at the beginning are read and not predicted: logits begin after them.
            memories: of what comes before the text [B, K, M].
            own_memories: of the text's own chunks but the last [B, C - 1, M], where they are known already; or the
                words that the model's `recalling` part tells of them [B, C - 1, T], if it has one.
            read: False leaves all memories unread: what the model does without them.

        Raises:
            UsageError: the model has no use for what it is given.
        """
        if (memories is not None or own_memories is not None) and not self.reads_given_memories:
            raise UsageError("this model cannot be given memories: leave them out, or take a memory model.")
        marks = None if marks is None else numbered(marks)
        skipped = remembered * self.chunk_tokens
        parts = [Predicted(self.reconstruct(input_ids[:own_rows, skipped:]))] if own_rows else []
        if own_rows < len(input_ids):
            marks, memories, own_memories = (x if x is None else x[own_rows:] for x in (marks, memories, own_memories))
            # What a reader makes of places that nothing is asked of would be made in vain.
            asked = None if labels is None or not self.training else labels[own_rows:, skipped:] != IGNORED
            given = Given(input_ids[own_rows:], marks, memories, own_memories, read, asked)
            predicted = self.predict(self.remember(remembered, given))
            more = predicted.logits.shape[1] + skipped - input_ids.shape[1]  # of chunks that are only read
            parts.append(predicted._replace(logits=predicted.logits[:, more:]) if more else predicted)
        logits_BNV = parts[0].logits
        if len(parts) > 1:
            logits_BNV = torch.cat([part.logits.to(parts[-1].logits) for part in parts])
        loss = None
        if labels is not None:
            labels, weights = labels[:, skipped:], None if weights is None else weights[:, skipped:]
            loss = self.token_loss(logits_BNV, labels, weights)
            if self.training and (lesson := parts[-1].lesson) is not None:
                loss = loss + weighted(lesson(labels[own_rows:]), labels, weights)
        # In training the loss alone is asked for: the logits of a batch are large.
        shown_BNV = None if self.training and loss is not None else logits_BNV
        last = parts[-1]
        return MemoryOutput(loss, shown_BNV, last.memories, last.opened, last.shares)

    def remember(self, remembered: int, given: Given) -> Given:
        """What `predict` is given if so many chunks are only read: all as it is, unless a model has a cheaper way."""
        return given

    def predict(self, given: Given) -> Predicted:
        """Logits [B, N, V], and the memories that were read."""
        raise TypeError(f"{type(self).__name__} has no predict")

    def encode(self, ids_BT: Tensor) -> Tensor:
        """Token ids [B, T], T <= chunk_tokens, padded at the end with id 0, -> memories [B, M].

        Raises:
            UsageError: the model forms no memories.
        """
        if not self.forms_memories:
            raise UsageError("this model forms no memories: name one that does, an autoencoder or a memory model.")
        return self.encoder(ids_BT)

    def encode_chunks(self, ids_BCT: Tensor) -> Tensor:
        """Chunks of token ids [B, C, T] -> memories [B, C, M], all at once."""
        return self.encode(ids_BCT.flatten(0, 1)).unflatten(0, ids_BCT.shape[:2])

    def reconstruct(self, ids_BN: Tensor) -> Tensor:
        """Logits [B, N, V] of every chunk from its own memory alone.

        Raises:
            UsageError: the model does not tell what tokens a memory holds.
        """
        if (recall := self.recall) is None:
            raise UsageError("this model does not tell what tokens a memory holds: choose the reader pointer.")
        memory_BCM = self.encode_chunks(chunked(ids_BN, self.chunk_tokens))
        logits_XTV = recall(memory_BCM.flatten(0, 1))
        return logits_XTV.unflatten(0, memory_BCM.shape[:2]).flatten(1, 2)[:, : ids_BN.shape[1]]

    @property
    def recall(self) -> Callable[[Tensor], Tensor] | None:
        """Memories [B, M] -> logits [B, T, V] of the tokens that they hold; None: the model cannot tell."""
        return None

    @property
    def recalling(self) -> ChunkDecoder | None:
        """What tells the words of memories, if these are all that it reads of them."""
        return None

    @property
    def memory_sizes(self) -> tuple[int, ...]:
        """How many first numbers of a memory are a memory by themselves, rising; the last is all of them."""
        return (self.memory_dim,)

    @property
    def forms_memories(self) -> bool:
        """Whether there is an encoder at all."""
        return self.encoder is not None

    @property
    def reads_own_memories(self) -> bool:
        """Whether what its encoder forms of a text can be given to it."""
        return self.forms_memories and self.reads_given_memories

    @property
    def reads_given_memories(self) -> bool:
        """Whether it can be given memories of what comes before the text."""
        return False

    def fingerprint(self) -> str:
        """SHA-256 over the shape and every weight."""
        return fingerprint(self, self.config.shape)


class Generative(TextMemory):
    """A model that continues text. A subclass says what it keeps meanwhile, and for how much text it has room.

    Attributes:
        reads_chunks: whether it reads text chunk by chunk, so that its access to memory can be measured.
        reads_earlier: whether anything of earlier chunks reaches a token.
        reader_name: what tables call the way in which it reads earlier chunks.
        files_memories: whether its reader can file those of a bank.
        reads_text: whether it reads what a bank of any encoder recalls, in tokens of its own.
        has_base: whether the untouched language model that it was made over can be asked too.
        base_positions: how many tokens that one has room for; None: no end.
    """

    generate = generate
    reads_chunks = True
    reads_earlier = True
    reader_name: str
    files_memories = False
    reads_text = False
    has_base = False
    base_positions: int | None = None

    def base_logits(self, ids_BN: Tensor) -> Tensor:
        """Logits [B, N, V] of the language model that it was made over, if it `has_base`."""
        raise TypeError(f"{type(self).__name__} has no base")

    def decoding(self, prompt: Prompt) -> Decoding:
        """What is kept of `prompt` while it is continued."""
        raise TypeError(f"{type(self).__name__} has no decoding")

    def cache_bytes(self, tokens: int, memories: int = 0) -> int:
        """Bytes kept of one text of so many tokens, and of so many memories before it."""
        raise TypeError(f"{type(self).__name__} has no cache_bytes")

    def most_tokens(self, memories: int = 0) -> int | None:
        """How many tokens, prompt and all, there is room for after so many memories; None: no end."""
        return None

    def memories_before(self, chunk: np.ndarray) -> np.ndarray:
        """How many memories tokens in chunks of these numbers can read; tokens of earlier chunks are no memories."""
        return np.zeros_like(chunk)


def chunked(ids_BN: Tensor, tokens: int) -> Tensor:
    """Token ids [B, N] -> chunks of `tokens` [B, C, T], the last one padded."""
    return nn.functional.pad(ids_BN, (0, -ids_BN.shape[1] % tokens), value=PAD).unflatten(1, (-1, tokens))
