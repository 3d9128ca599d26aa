"""Memories as they come from an encoder -> what is kept of them: how many numbers of each, and what makes it exact."""

import numpy as np

from memlm.bank.decoder import likeliest, own_decoder
from memlm.bank.kept import Keeping, corrections, cut, rounded
from memlm.errors import UsageError
from memlm.models.model import TextMemory

MARGIN = 1e-2  # of logits; no token within it: another machine's rounding does not change which is the likeliest


def check_kept(model: TextMemory, keeping: Keeping) -> None:
    """Refuse what a model's memories cannot be kept as.

    Raises:
        UsageError: a size that it was not trained for, or a decoder is needed and it has none of single memories.
    """
    sizes, M = model.memory_sizes, model.memory_dim
    if keeping.accuracy is not None and keeping.numbers is not None:
        raise UsageError("name numbers or an accuracy, not both: an accuracy chooses the numbers of each memory.")
    check_size(model, keeping.numbers)
    if keeping.accuracy is not None and len(sizes) == 1:
        raise UsageError(f"memories of this model have {M} numbers each, and an accuracy has no choice{_train(sizes)}.")
    if (keeping.accuracy is not None or keeping.lossless) and own_decoder(model).together > 1:
        raise UsageError(
            "this model has no decoder of single memories that could tell what comes back: name an autoencoder, or "
            "leave --accuracy and --lossless out."
        )


def check_size(model: TextMemory, numbers: int | None) -> None:
    """Refuse so many numbers of a memory, where they are no memory by themselves (UsageError)."""
    sizes = model.memory_sizes
    if numbers is not None and numbers not in sizes:
        raise UsageError(f"memories of this model can be cut to {' or '.join(map(str, sizes))} numbers{_train(sizes)}.")


def _train(sizes: tuple[int, ...]) -> str:
    return ": train one whose first numbers are memories too (memlm train slots-nested)" if len(sizes) == 1 else ""


def keep(
    model: TextMemory, keeping: Keeping, memory_KM: np.ndarray, ids_KT: np.ndarray, held_K: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """What is kept of memories.

    Args:
        model: which made them.
        keeping: how they are kept; `check_kept` has seen it.
        memory_KM: as they were made, float32.
        ids_KT: the tokens that they were made of.
        held_K: how many of these are the document's.

    Returns:
        The memories, not rounded, 0 beyond their numbers; how many these are, int32 [K]; the corrections of each, of a
        lossless bank alone.
    """
    dtype = keeping.dtype or "fp32"
    numbers_K = np.full(len(memory_KM), keeping.numbers or model.memory_dim, np.int32)
    own_KT = np.arange(ids_KT.shape[1]) < held_K[:, None]
    if keeping.accuracy is not None:
        left = np.flatnonzero(held_K)
        for size in model.memory_sizes[:-1]:
            found_nT = likeliest(model, rounded(memory_KM[left, :size], dtype)[0])[0][..., 0]
            right_n = ((found_nT == ids_KT[left]) & own_KT[left]).sum(1)
            enough_n = right_n >= keeping.accuracy * held_K[left]
            numbers_K[left[enough_n]] = size
            left = left[~enough_n]
    memory_KM = cut(memory_KM, numbers_K)
    if not keeping.lossless:
        return memory_KM, numbers_K, []
    found_KT2, log_KT2 = likeliest(model, rounded(memory_KM, dtype)[0], 2)
    sure_KT = log_KT2[..., 0] - log_KT2[..., 1] > MARGIN
    rows = zip(found_KT2[..., 0], ids_KT, sure_KT, held_K.tolist(), strict=True)
    return memory_KM, numbers_K, [corrections(found[:n], true[:n], sure[:n]) for found, true, sure, n in rows]
