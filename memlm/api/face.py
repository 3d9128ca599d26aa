"""What every model can be asked, whoever trained it; what it was not made for, it refuses in a sentence."""

import codecs
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from memlm.bank.bank import Bank
from memlm.bank.memories import Memories
from memlm.continuation import Continuation
from memlm.errors import UsageError

Texts = str | Sequence[str]


class Model(ABC):
    """A frozen model by its name: what it was not made for, it refuses in a sentence.

    Attributes:
        name: what it was loaded by.
        chunk_tokens: T, the most tokens of one memory; a longer text has several.
        memory_dim: M, numbers of a memory.
    """

    def __init__(self, name: str, chunk_tokens: int, memory_dim: int):
        self.name, self.chunk_tokens, self.memory_dim = name, chunk_tokens, memory_dim

    @abstractmethod
    def encode(self, texts: Texts, *, batch: int = 32) -> Memories:
        """Encode texts of any length: one memory for each chunk of T tokens of each, a last one of what is left.

        Args:
            texts: a text, or a list of texts.
            batch: chunks encoded at once.

        Raises:
            UsageError: no text, or something else than text; a model that forms no memories of single chunks.
            WorkError: a batch needs more memory than is free.
        """

    def decode(self, memories: Memories | Bank, *, batch: int = 256, check: bool = False) -> list[str]:
        """The texts that memories hold, of which nothing else is told to the decoder.

        Args:
            memories: made by this model's encoder, whatever else the model that made them is.
            batch: memories decoded at once.
            check: encode again what was recalled, and try other tokens where that is not the memory: slower, and right
                more often.

        Returns:
            One text for each that was encoded.

        Raises:
            UsageError: another encoder's memories, or a model without a decoder of memories.
        """
        raise UsageError(f"{self.name} is a model of others: it encodes and is measured, and decodes no memories.")

    def generate(
        self,
        prompt: str,
        *,
        memories: Memories | Bank | None = None,
        max_new_tokens: int = 50,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        stream: Callable[[str], Any] | None = None,
    ) -> str:
        """Continue a prompt, token by token; the names and meanings of Hugging Face's `generate`.

        Args:
            prompt: may be empty.
            memories: of what comes before the prompt, one after the other, in the place of its tokens.
            max_new_tokens: how many tokens are added at most; the text may end before.
            do_sample: draw tokens; False takes the likeliest.
            temperature: below 1 likely tokens become likelier.
            top_k: draw among so many likeliest tokens.
            top_p: draw among the likeliest tokens that are that likely together.
            seed: of the draws.
            stream: is told the prompt, then what follows, as soon as characters are whole.

        Returns:
            What follows the prompt.

        Raises:
            UsageError: a model that predicts no text or is given memories that it does not read, another encoder's
                memories, or an argument that makes no sense; nothing was generated.
        """
        how = {"do_sample": do_sample, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        return self.go_on(prompt, memories, stream, max_new_tokens=max_new_tokens, **how).text

    @abstractmethod
    def go_on(
        self, prompt: str, memories: Memories | Bank | None, stream: Callable[[str], Any] | None, **how: Any
    ) -> Continuation:
        """What `generate` does, with the ids of what follows."""


def checked_texts(texts: Texts) -> tuple[str, ...]:
    """A text or a list of texts as texts.

    Raises:
        UsageError: there is none, or something among them is no Unicode text.
    """
    told = (texts,) if isinstance(texts, str) else tuple(texts) if isinstance(texts, Iterable) else (texts,)
    if not told:
        raise UsageError("there is no text: give a string, or a list with at least one.")
    for number, text in enumerate(told):
        if not isinstance(text, str):
            raise UsageError(f"text {number} is {type(text).__name__}: give a string, or a list of strings.")
        try:
            codecs.utf_8_encode(text)
        except UnicodeEncodeError as error:
            raise UsageError(f"text {number} is not valid Unicode (a lone surrogate at {error.start}).") from None
    return told
