"""How memories are kept: the type of their numbers, how many of them, and what would come back wrong.

type          numbers are rounded to floats or to whole multiples of one scale for each memory
numbers       the first so many of a memory that was trained for it (bridge `nested`); the rest is read as 0
corrections   of a lossless memory: the tokens that its decoder gets wrong, with their places

What is read of a kept memory is always float32 [M].
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from memlm.bank.chunks import Fill
from memlm.named import check_named
from memlm.ranges import Checked, Count, ShareAbove

Stored = Literal["fp32", "bf16", "fp16", "int8", "int4"]


class _Type(NamedTuple):
    """How numbers of a type lie on disk: in elements of `element`, `each` to one; rounded to `most` steps of a scale,
    or, where that is 0, to a share `rounding` of themselves at most.
    """

    element: type[np.generic]
    each: int = 1
    most: int = 0
    rounding: float = 0.0


TYPES: dict[str, _Type] = {
    "fp32": _Type(np.float32, rounding=2.0**-24),
    "bf16": _Type(np.uint16, rounding=2.0**-8),
    "fp16": _Type(np.float16, rounding=2.0**-11),
    "int8": _Type(np.int8, most=127),
    "int4": _Type(np.uint8, each=2, most=7),
}
INDEXED = "fp32", "fp16"  # that Lance files


@dataclass(frozen=True, kw_only=True)
class Keeping(Checked):
    """How memories shall be kept; None: as the bank that they are added to, or the first that is named.

    Args:
        dtype: of their numbers: fp32, or rounded to 16, 8 or 4 bits.
        numbers: the first so many of each: all, or a size that the model was trained for.
        accuracy: as few numbers of each as tell this share of its tokens right, all where none do.
        lossless: keep what the decoder gets wrong, so that all of it comes back.
        fill: what a document's last chunk holds after the document: its own tokens again, or padding.
    """

    dtype: Stored | None = None
    numbers: Count | None = None
    accuracy: ShareAbove | None = None
    lossless: bool | None = None
    fill: Fill | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_named("dtype", self.dtype or "fp32", TYPES)
        check_named("fill", self.fill or "pad", ("pad", "repeat"))

    @property
    def given(self) -> dict[str, Any]:
        """What is not None."""
        return {name: value for name, value in vars(self).items() if value is not None}


ANY = Keeping()
FIRST = Keeping(dtype="fp32", lossless=False, fill="repeat")  # of a bank of which nothing else is asked


def row_bytes(dtype: str, numbers: int) -> int:
    """Bytes of a memory of so many numbers."""
    known = TYPES[dtype]
    return -(-numbers // known.each) * np.dtype(known.element).itemsize + (4 if known.most else 0)


def pack(memory_KM: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Memories in float32 [K, M] as they are stored: elements [K, E], and of whole numbers the scale of each [K]."""
    known = TYPES[dtype]
    memory_KM, scale_K = np.asarray(memory_KM, np.float32), None
    if known.most:
        most_K = np.abs(memory_KM).max(1, initial=0)
        scale_K = np.where(most_K > 0, most_K / known.most, 1).astype(np.float32)
        memory_KM = np.rint(memory_KM / scale_K[:, None])
    if dtype == "bf16":
        bits_KM = np.ascontiguousarray(memory_KM).view(np.uint32)
        return ((bits_KM + 0x7FFF + ((bits_KM >> 16) & 1)) >> 16).astype(
            np.uint16
        ), None  # to the nearest, ties to even
    if dtype == "int4":
        low_high = np.pad(memory_KM.astype(np.int8), ((0, 0), (0, memory_KM.shape[1] % 2))).view(np.uint8) & 15
        return low_high[:, ::2] | low_high[:, 1::2] << 4, scale_K
    return np.ascontiguousarray(memory_KM, known.element), scale_K


def unpack(stored_KE: np.ndarray, scale_K: np.ndarray | None, dtype: str, numbers: int) -> np.ndarray:
    """The memories that were stored, float32 [K, numbers]: zeros beyond those that are there."""
    if dtype == "bf16":
        memory_KM = (stored_KE.astype(np.uint32) << 16).view(np.float32)
    elif dtype == "int4":
        both = np.stack([stored_KE << 4, stored_KE & 0xF0], 2).reshape(len(stored_KE), -1)
        memory_KM = (both.view(np.int8) >> 4).astype(np.float32)
    else:
        memory_KM = stored_KE.astype(np.float32, copy=False)
    if scale_K is not None:
        memory_KM = memory_KM * scale_K[:, None]
    return padded(memory_KM, numbers)


def rounded(memory_KM: np.ndarray, dtype: str) -> np.ndarray:
    """Memories as they come back from a store of this type, float32 [K, M]."""
    return unpack(*pack(memory_KM, dtype), dtype, memory_KM.shape[1])


def cell(memory_KM: np.ndarray, dtype: str) -> np.ndarray:
    """How far each number of a rounded memory may have been from what it is now: [K, M]."""
    known = TYPES[dtype]
    if not known.most:
        return np.abs(memory_KM) * known.rounding
    return np.broadcast_to(np.abs(memory_KM).max(1, keepdims=True, initial=0) / known.most / 2, memory_KM.shape)


def padded(memory_KM: np.ndarray, numbers: int) -> np.ndarray:
    """So many numbers of each memory: the first, or zeros beyond those that are there."""
    missing = numbers - memory_KM.shape[1]
    return np.pad(memory_KM, ((0, 0), (0, missing))) if missing > 0 else memory_KM[:, :numbers]


def cut(memory_KM: np.ndarray, numbers_K: np.ndarray) -> np.ndarray:
    """The first numbers of each memory, zeros in the place of the others."""
    return np.where(np.arange(memory_KM.shape[1]) < numbers_K[:, None], memory_KM, np.float32(0))


def corrections(found_T: np.ndarray, true_T: np.ndarray, sure_T: np.ndarray) -> bytes:
    """What turns recalled tokens into the true ones: for each that differs, or that another machine might recall
    otherwise (not `sure_T`), the distance from the last one's place and the token, in bytes of 7 bits.
    """
    told, last = bytearray(), -1
    for place in np.flatnonzero((found_T != true_T) | ~sure_T).tolist():
        told += _bytes(place - last - 1) + _bytes(int(true_T[place]))
        last = place
    return bytes(told)


def correct(ids_KT: np.ndarray, kept: Sequence[bytes]) -> np.ndarray:
    """Recalled tokens [K, T] with their corrections; a copy."""
    ids_KT = ids_KT.copy()
    for ids_T, told in zip(ids_KT, kept, strict=True):
        numbers, place = list(_numbers(told)), -1
        for skipped, token in zip(numbers[::2], numbers[1::2], strict=True):
            place += skipped + 1
            ids_T[place] = token
    return ids_KT


def _bytes(number: int) -> bytes:
    told = bytearray()
    while number > 127:
        told.append(number & 127 | 128)
        number >>= 7
    return bytes([*told, number])


def _numbers(told: Iterable[int]) -> Iterable[int]:
    number, shift = 0, 0
    for byte in told:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number, shift = 0, 0
