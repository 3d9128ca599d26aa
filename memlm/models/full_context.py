"""The baseline that reads all earlier tokens: a plain transformer on a memory model's decoder and chunks.

A start slot also holds the token before it, so that nothing of the text is missing; without what comes before (`read`
False) every chunk is read by itself.
"""

from torch import nn

from memlm.decoding.cached import Decoding, Prompt, cache_entries
from memlm.decoding.flat import FullDecoding
from memlm.models.chunk_model import ChunkModel
from memlm.models.model import Given, Predicted, chunked
from memlm.models.shapes import FullContextShape
from memlm.nn.stack import build_stack
from memlm.nn.vocabulary import token_embedding


class FullContext(ChunkModel, shape=FullContextShape):
    """tokens -> stack -> head; chunks only say where start slots are (paper, Baselines)."""

    start_holds_last = True
    reader_name = "full"

    def build(self, shape: FullContextShape, vocab_size: int) -> None:
        """As of `TextMemory`."""
        width = shape.decoder.width
        self.embed = token_embedding(vocab_size, width)
        self.make_inputs(width)
        self.decoder = build_stack(shape.decoder, shape.chunk_tokens)
        self.head = nn.Linear(width, vocab_size, bias=False)

    def predict(self, given: Given) -> Predicted:
        """As of `TextMemory`: every token from all those before it."""
        ids_BCT, marks = chunked(given.ids_BN, self.chunk_tokens), given.marks_BC
        whole = ids_BCT.shape[:2]
        if not given.read:
            ids_BCT, marks = ids_BCT.flatten(0, 1)[:, None], None if marks is None else marks.reshape(-1, 1)
        h_BNW = self.decoder(self.embed_chunks(ids_BCT, marks).flatten(1, 2))
        h_BNW = h_BNW if given.read else h_BNW.unflatten(0, whole).flatten(1, 2)
        return Predicted(self.head(h_BNW[:, : given.ids_BN.shape[1]]))

    def decoding(self, prompt: Prompt) -> Decoding:
        """What is kept of `prompt` while it is continued: all its entries."""
        return FullDecoding(self, prompt)

    def cache_bytes(self, tokens: int, memories: int = 0) -> int:
        """Bytes kept of a text: layers x 2 x width for every token, in whole chunks."""
        return cache_entries(self.chunk_tokens, self.chunk_tokens, tokens) * self.decoder.entry_bytes
