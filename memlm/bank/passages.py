"""A bank of any encoder -> passages for a language model of others: what its memories recall, tokenised again.

Recalled text is what two tokenizers have in common, so that one bank serves every language model. Each document begins
a passage; where its memories lie in the text is counted in bytes, which both tokenizers tell of every token.

BANK/index/<hash>/<array>.npy   a `PlaceIndex` (readers/filed.py) of these words, and memory_K: the memory in which
                                each passage begins
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from memlm import ui
from memlm.arrays import read_npy
from memlm.bank.bank import Bank
from memlm.bank.filing import index_folder, opened_index, written
from memlm.bank.opening import open_maker
from memlm.bank.recall import recall
from memlm.precision import Device
from memlm.pretrained.copying import Copying, in_passages
from memlm.readers.filed import PlaceIndex
from memlm.tokens.detokenise import TextStream
from memlm.tokens.tokenizer import token_bytes, tokens_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Passages:
    """A bank as a language model of others reads it.

    Attributes:
        index: of the passages' words.
        memory_K: the bank's memory in which each begins.
    """

    index: PlaceIndex
    memory_K: np.ndarray

    def of_bank(self, copied: list[list[tuple[int, float]]]) -> list[list[tuple[int, float]]]:
        """Numbers of passages, with shares, as numbers of memories."""
        return [[(int(self.memory_K[number]), share) for number, share in pairs] for pairs in copied]


def passages_of(bank: Bank, model: Copying, tokenizer: "Tokenizer") -> Passages:
    """The passages of a bank; made if they are not there.

    Raises:
        UsageError: the model that made the bank is not there any more, recalls nothing, or what is there is damaged.
    """
    folder = index_folder(bank, model.reader, [model.chunk_tokens, bank.meta.encoder])
    if not folder.exists():
        maker, own = open_maker(
            bank, device=cast(Device, model.device.type), then="put it back, or encode the documents anew"
        )
        words, memory = [], []
        with ui.progress(unit="documents") as bar:
            task = bar.add_task(f"{bank.path.name}: recalling", total=len(bank.documents))
            for number in range(len(bank.documents)):
                words_KT, memory_K = _document(bank, maker, own, tokenizer, number, model.chunk_tokens)
                words.append(words_KT)
                memory.append(memory_K + bank.span(number).start)
                bar.advance(task)
        words_KT = torch.cat([torch.zeros(0, model.chunk_tokens, dtype=torch.long), *words])
        memory_K = np.concatenate([np.zeros(0, np.int64), *memory])

        def file(scratch: Any) -> PlaceIndex:
            if scratch is not None:
                np.save(scratch / "memory_K.npy", memory_K)
            return model.reader.index_words(words_KT, torch.zeros(0, 1), scratch)

        if (unkept := written(bank, folder, file)) is not None:
            return Passages(unkept, memory_K)
    index = opened_index(folder, None)
    return Passages(index, read_npy(folder / "memory_K.npy", mapped=True))


def _document(
    bank: Bank, maker: Any, own: "Tokenizer", tokenizer: "Tokenizer", number: int, passage: int
) -> tuple[torch.Tensor, np.ndarray]:
    """A document's passages [K, T], and the number of the memory in which each begins."""
    ids_N = np.concatenate([np.empty(0, np.int64), *recall(bank, maker, number)])
    text = TextStream(own).feed(ids_N.tolist(), last=True)
    words_KT = in_passages(torch.from_numpy(tokens_of(tokenizer, [text])), passage)
    first_C = np.concatenate([[0], token_bytes(own)[ids_N].cumsum()])[:-1][:: bank.meta.chunk_tokens]
    ends_K = token_bytes(tokenizer)[words_KT.numpy()].sum(1).cumsum()
    begins_K = np.concatenate([[0], ends_K[:-1]])[: len(words_KT)]
    return words_KT, np.searchsorted(first_C, begins_K, side="right").clip(1) - 1
