"""What follows a prompt: its text and ids, which memories it was copied from, and its text as it comes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from memlm.nn.vocabulary import END
from memlm.tokens.detokenise import TextStream

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Continuation(NamedTuple):
    """What follows a prompt: its text and ids, and how many tokens and memories there were before it.

    `copied` tells of each new token from which memories it was copied and to what share of its probability, the most
    first; memories of the prompt come after those that were given. None: the model's reader does not tell.
    """

    text: str
    ids: list[int]
    prompt_tokens: int
    memories: int
    copied: list[list[tuple[int, float]]] | None = None

    @property
    def ended(self) -> bool:
        """Whether the text ended by itself, and not by `max_new_tokens`."""
        return END in self.ids


def copied_from(opened: list[Any]) -> list[list[tuple[int, float]]] | None:
    """What was opened for each token of one text, as plain numbers: what gave a thousandth at least."""
    if all(one is None for one in opened):
        return None
    found: list[list[tuple[int, float]]] = []
    for one in opened:  # None: there was no memory yet
        pairs = [] if one is None else zip(one[0][0].tolist(), one[1][0].tolist(), strict=True)
        found.append(
            sorted((pair for pair in pairs if pair[1] >= 1e-3), key=lambda pair: (-round(pair[1], 3), -pair[0]))
        )
    return found


class Streamer:
    """A streamer of transformers' kind (put, end) that hands on text as soon as its characters are whole."""

    def __init__(self, tokenizer: "Tokenizer", stream: Callable[[str], Any]):
        self._text, self._stream = TextStream(tokenizer), stream

    def put(self, value: torch.Tensor) -> None:
        """The prompt's ids [1, N], then every new token's [1]."""
        self._stream(self._text.feed(value.flatten().tolist()))

    def end(self) -> None:
        """No more will come."""
        self._stream(self._text.feed([], last=True))
