"""Token ids in one flat file, document boundaries beside it: written as they come, in bounded memory.

NAME.bin        the tokens of all documents, one after the other, each document followed by one end token
NAME.docs.npy   int64 [documents + 1]: document i is tokens[docs[i] : docs[i + 1]], its end token included
"""

from pathlib import Path
from typing import BinaryIO, Self

import numpy as np


class TokenWriter:
    """Writes NAME.bin, of ids of `dtype`, and NAME.docs.npy into a folder, the id `end` after every document.

    Use it as a context manager.
    """

    def __init__(self, folder: Path, name: str, dtype: np.dtype, end: int):
        self.tokens = self.documents = 0
        self._end = np.array([end], dtype).tobytes()
        self._dtype, self._open = dtype, False
        self._bin: BinaryIO = open(folder / f"{name}.bin", "wb", buffering=1 << 20)  # noqa: SIM115, closed on exit
        self._docs: BinaryIO = open(folder / f"{name}.docs.npy", "wb", buffering=1 << 20)  # noqa: SIM115
        self._header()
        self._boundary()

    def append(self, ids: np.ndarray) -> None:
        """Add ids [n] to the document that is being written."""
        self._bin.write(ids.astype(self._dtype, copy=False).tobytes())
        self.tokens += len(ids)

    def end_document(self) -> None:
        """End the document that is being written."""
        self._bin.write(self._end)
        self.tokens += 1
        self.documents += 1
        self._boundary()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._bin, self._docs:
            if kind is None:
                self._docs.seek(0)
                self._header()

    def _boundary(self) -> None:
        self._docs.write(self.tokens.to_bytes(8, "little"))

    def _header(self) -> None:
        """The header of an .npy file keeps room for the count to grow, so it can be written over at the end."""
        np.lib.format.write_array_header_1_0(
            self._docs, {"shape": (self.documents + 1,), "fortran_order": False, "descr": "<i8"}
        )
