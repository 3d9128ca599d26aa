"""How memories are kept: the type of their numbers, how many of them, and what would come back wrong.

type          numbers are rounded to floats or to whole multiples of one scale for each memory
numbers       the first so many of a memory that was trained for it (bridge `nested`); the rest is read as 0
corrections   of a lossless memory: the tokens that its decoder gets wrong, with their places

What is read of a kept memory is always float32 [M].
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from memlm.bank.chunks import Fill
from memlm.named import check_named
from memlm.ranges import Checked, Count, ShareAbove

Stored = Literal["fp32", "bf16", "fp16", "int8", "int4"]


class _Type(NamedTuple):
    """How numbers of a type lie on disk: as elements, and how far rounding moves one, as a share of itself."""

    element: type[np.generic]
    rounding: float = 0.0


TYPES: dict[str, _Type] = {
    "fp32": _Type(np.float32, 2.0**-24),
    "bf16": _Type(np.uint16, 2.0**-8),
    "fp16": _Type(np.float16, 2.0**-11),
    "int8": _Type(np.int8),  # times a scale of the memory
    "int4": _Type(np.uint8),  # by groups: a scale in fp16, then two numbers a byte
}
INDEXED = "fp32", "fp16"  # that Lance files
_GROUP, _BYTES = 32, 18  # numbers of int4 that share a scale, and what they take
_CLIPS = 1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7  # of a group's largest number, one of which rounds the group best


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
        check_named("fill", self.fill or "pad", dict.fromkeys(get_args(Fill)))

    @property
    def given(self) -> dict[str, Any]:
        """What is not None."""
        return {name: value for name, value in vars(self).items() if value is not None}


ANY = Keeping()
FIRST = Keeping(dtype="fp32", lossless=False, fill="repeat")  # of a bank of which nothing else is asked


def elements(dtype: str, numbers: Any) -> Any:
    """How many elements so many numbers are; of arrays too."""
    return -(-numbers // _GROUP) * _BYTES if dtype == "int4" else numbers


def row_bytes(dtype: str, numbers: int) -> int:
    """Bytes of a memory of so many numbers."""
    return elements(dtype, numbers) * np.dtype(TYPES[dtype].element).itemsize + (4 if dtype == "int8" else 0)


def pack(memory_KM: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Memories in float32 [K, M] as they are stored: elements [K, E], and of int8 the scale of each [K]."""
    memory_KM = np.ascontiguousarray(memory_KM, np.float32)
    if dtype == "int8":
        most_K = np.abs(memory_KM).max(1, initial=0)
        scale_K = np.where(most_K > 1e-30, most_K / 127, 1).astype(np.float32)
        return np.rint(memory_KM / scale_K[:, None]).astype(np.int8), scale_K
    if dtype == "bf16":
        bits_KM = memory_KM.view(np.uint32)
        return ((bits_KM + 0x7FFF + ((bits_KM >> 16) & 1)) >> 16).astype(
            np.uint16
        ), None  # to the nearest, ties to even
    return (_pack4(memory_KM) if dtype == "int4" else memory_KM.astype(TYPES[dtype].element)), None


def unpack(
    stored_KE: np.ndarray, scale_K: np.ndarray | None, dtype: str, numbers: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """The memories that were stored, float32 [K, numbers], zeros beyond those that are there; and how far apart the
    values are that a number may have, for groups of numbers [K, G]: of int8 and int4 alone.
    """
    if dtype == "bf16":
        return padded((stored_KE.astype(np.uint32) << 16).view(np.float32), numbers), None
    if dtype == "int4":
        memory_KM, step_KG = _unpack4(stored_KE)
        return padded(memory_KM, numbers), padded(step_KG, -(-numbers // _GROUP))
    memory_KM = stored_KE.astype(np.float32, copy=False)
    if scale_K is None:
        return padded(memory_KM, numbers), None
    return padded(memory_KM * scale_K[:, None], numbers), scale_K[:, None]


def _pack4(memory_KM: np.ndarray) -> np.ndarray:
    """Each number of a group as one of 16 odd multiples of half of its scale, which is what rounds the group best."""
    groups_KGN = np.pad(memory_KM, ((0, 0), (0, -memory_KM.shape[1] % _GROUP))).reshape(len(memory_KM), -1, _GROUP)
    most_KG1 = np.abs(groups_KGN).max(2, keepdims=True, initial=0)
    best_KG1, scale_KG1 = np.full(most_KG1.shape, np.inf), np.zeros(most_KG1.shape, np.float16)
    for share in _CLIPS:
        tried_KG1 = np.minimum(most_KG1 * (share / 7.5), 6e4).astype(np.float16)
        wrong_KG1 = ((_levels(groups_KGN, tried_KG1) * tried_KG1 - groups_KGN) ** 2).sum(2, keepdims=True)
        scale_KG1 = np.where(wrong_KG1 < best_KG1, tried_KG1, scale_KG1)
        best_KG1 = np.minimum(best_KG1, wrong_KG1)
    code_KGN = (_levels(groups_KGN, scale_KG1) + 7.5).astype(np.uint8)
    bytes_KGN = code_KGN[..., ::2] | code_KGN[..., 1::2] << 4
    return np.concatenate([scale_KG1.view(np.uint8), bytes_KGN], 2).reshape(len(memory_KM), -1)


def _levels(groups_KGN: np.ndarray, scale_KG1: np.ndarray) -> np.ndarray:
    """The nearest of -7.5, -6.5, ... 7.5 to each number, in scales."""
    of_scale_KGN = groups_KGN / np.where(scale_KG1 > 0, scale_KG1, 1).astype(np.float32)
    return np.clip(np.floor(of_scale_KGN), -8, 7) + np.float32(0.5)


def _unpack4(stored_KE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    groups_KGB = np.ascontiguousarray(stored_KE).reshape(len(stored_KE), -1, _BYTES)
    scale_KG1 = np.ascontiguousarray(groups_KGB[..., :2]).view(np.float16).astype(np.float32)
    code_KGN2 = np.stack([groups_KGB[..., 2:] & 15, groups_KGB[..., 2:] >> 4], 3)
    memory_KGN = (code_KGN2.reshape(*scale_KG1.shape[:2], _GROUP) - np.float32(7.5)) * scale_KG1
    return memory_KGN.reshape(len(stored_KE), -1), scale_KG1[..., 0]


def rounded(memory_KM: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Memories as they come back from a store of this type, float32 [K, M], and the steps; as of `unpack`."""
    return unpack(*pack(memory_KM, dtype), dtype, memory_KM.shape[1])


def outside(memory_KM: np.ndarray, kept_KM: np.ndarray, dtype: str, step_KG: np.ndarray | None) -> np.ndarray:
    """How far each number of memories lies outside of what is rounded to the kept ones: 0 for those that were [K, M].

    A hundredth of the memory's mean square root is left to the rounding of machines, and to compiled encoders.
    """
    apart_KM, half_KM = memory_KM - kept_KM, np.abs(kept_KM) * TYPES[dtype].rounding
    if step_KG is not None:
        step_KM = np.repeat(step_KG, _GROUP, 1)[:, : kept_KM.shape[1]] if dtype == "int4" else step_KG
        half_KM = np.broadcast_to(step_KM / 2, kept_KM.shape)
        if dtype == "int4":  # whose largest values stand for all beyond them
            outward_KM = (np.abs(kept_KM) > 7.4 * step_KM) & (apart_KM * kept_KM > 0)
            half_KM = np.where(outward_KM, np.inf, half_KM)
    least_K1 = np.sqrt((kept_KM**2).mean(1, keepdims=True)) * 1e-2
    return np.maximum(np.abs(apart_KM) - half_KM - least_K1, 0)


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
