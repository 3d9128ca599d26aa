"""Token ids -> text as they come: tokens are bytes, and a character may be cut between two of them."""

import codecs
from collections.abc import Iterable
from copy import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TextStream:
    """Turns a stream of token ids into text, in bounded memory.

    The ids of a tokenised text give back that text. Bytes that are no UTF-8, as a wrong recall may have them, become
    U+FFFD; special tokens, and ids that the tokenizer does not have, stand for no text. After the last ids of one text
    come the first ones of another: making a stream reads the whole vocabulary, so that many texts share one.
    """

    def __init__(self, tokenizer: "Tokenizer"):
        self._spelt = token_spellings(tokenizer)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def another(self) -> "TextStream":
        """One for another text that comes at the same time; the vocabulary is not read again."""
        found = copy(self)
        found._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        return found

    def feed(self, ids: Iterable[int], *, last: bool = False) -> str:
        """The text of the next ids, as far as its characters are whole; of all that is left when they are the last."""
        return self._utf8.decode(b"".join(self._spelt.get(i, b"") for i in ids), last)


def token_spellings(tokenizer: "Tokenizer") -> dict[int, bytes]:
    """The bytes that each token id stands for; special tokens are left out."""
    added = tokenizer.get_added_tokens_decoder()
    spelt = {i: token.content.encode() for i, token in added.items() if not token.special}
    byte_of = {character: byte for byte, character in enumerate(_alphabet())}
    for token, i in tokenizer.get_vocab().items():
        if i not in added:
            spelt[i] = bytes(byte_of[character] for character in token)
    return spelt


def _alphabet() -> list[str]:
    """The characters in which GPT-2's byte-level BPE writes the bytes 0 to 255: printable ones as they are."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = (chr(256 + n) for n in range(256))
    return [chr(byte) if byte in printable else next(others) for byte in range(256)]
