"""Texts of which it is known where memory is needed: plain ones, copies, copies half of which is noise."""

from dataclasses import dataclass

import torch
from torch import Tensor

from memlm.nn.vocabulary import END
from memlm.objectives.text import Copy

PLACES = ("plain", "copied", "noise")


@dataclass(frozen=True)
class Texts:
    """B texts of N tokens.

    Args:
        ids_BN: the tokens; each is predicted, and scored, at its own place.
        place_BN: what stands there, a number among `PLACES`.
        marks_BC: bool, the chunks that repeat earlier ones; None: there are none.
        back: from how many chunks before a copied token is copied; 0: there are none.
    """

    ids_BN: Tensor
    place_BN: Tensor
    marks_BC: Tensor | None = None
    back: int = 0


def plain(tokens_BW: Tensor, chunk_tokens: int, vocab_size: int, seed: int) -> Texts:
    """The text as it is: memories are of use where it comes back to something."""
    return Texts(tokens_BW, torch.zeros_like(tokens_BW))


def copy(tokens_BW: Tensor, chunk_tokens: int, vocab_size: int, seed: int) -> Texts:
    """The text twice: memories tell all of the second half."""
    batch = Copy(blank=False)(tokens_BW, chunk_tokens)
    place_BW = torch.full_like(tokens_BW, PLACES.index("copied"))
    place_BN = torch.cat([torch.zeros_like(tokens_BW), place_BW], 1)
    return Texts(batch.input_ids, place_BN, batch.marks, tokens_BW.shape[1] // chunk_tokens)


def noisy_copy(tokens_BW: Tensor, chunk_tokens: int, vocab_size: int, seed: int) -> Texts:
    """A copy half of whose second half, at random places of each text, is uniformly random: told by nothing at all."""
    whole, half = copy(tokens_BW, chunk_tokens, vocab_size, seed), tokens_BW.shape[1]
    generator = torch.Generator().manual_seed(seed)
    order_BW = torch.rand(tokens_BW.shape, generator=generator).argsort(1)
    noise_BW = order_BW < half // 2
    random_BW = torch.randint(END + 1, vocab_size, tokens_BW.shape, generator=generator)
    ids_BN, place_BN = whole.ids_BN.clone(), whole.place_BN.clone()
    ids_BN[:, half:][noise_BW] = random_BW[noise_BW]
    place_BN[:, half:][noise_BW] = PLACES.index("noise")
    return Texts(ids_BN, place_BN, whole.marks_BC, whole.back)


# A name -> how texts are made, and how many chunks of text one of C chunks takes.
TEXTS = {
    "plain": (plain, lambda chunks: chunks),
    "copy": (copy, lambda chunks: chunks // 2),
    "noisy copy": (noisy_copy, lambda chunks: chunks // 2),
}
