"""Encoders that a user brings: any function from texts to vectors, or vectors beside the texts they are of.

How either came to be is not known, so that no untrained twin stands beside it: its rows say which controls they lack.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from memlm.arrays import read_npy
from memlm.bank.digest import sha256_rows
from memlm.errors import UsageError, WorkError, first_line, refusing
from memlm.files import read_json, sha256_json
from memlm.measure.encoders import Encoder
from memlm.measure.texts import GivenTexts
from memlm.pretrained.hidden import BROKEN, chunk_texts

Vectors = Callable[[list[str]], Any]  # texts -> an array, tensor or nested list [texts, M]
SUFFIXES = (".npy", ".safetensors")
_TRIED = ["It was a bright cold day.", "The sea was calm."]  # before any work: what does it return?


def from_callable(vectors: Vectors, tokenizer: Tokenizer, batch: int, name: str | None = None) -> Encoder:
    """A function as an encoder: it is given the text of each chunk, so many at a time.

    Args:
        vectors: texts -> vectors, one each, of one length: an array, a tensor, or lists.
        tokenizer: the corpus', whose ids become text.
        batch: texts at once.
        name: what its vectors are kept under, together with what it says of two texts; a function without a name is
            asked anew by every process.

    Raises:
        UsageError: what it returns are no such vectors.
        WorkError: it raises.
    """
    called = name or str(getattr(vectors, "__name__", type(vectors).__name__)).strip("<>")

    def asked(texts: list[str]) -> np.ndarray:
        try:
            returned = vectors(texts)
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            raise WorkError(f"{called} failed on {len(texts)} texts ({type(error).__name__}: {first}).") from error
        return as_vectors(returned, len(texts), called)

    tried = asked(_TRIED)
    memory_dim, said = tried.shape[1], sha256_json(tried.astype(np.float16).astype(float).tolist())

    def encode(ids_BT: Tensor) -> list[Tensor]:
        texts, found = chunk_texts(tokenizer, ids_BT.cpu().numpy()), []
        for i in range(0, len(texts), batch):
            found.append(asked(texts[i : i + batch]))
            if found[-1].shape[1] != memory_dim:
                raise UsageError(f"{called} returned vectors of {memory_dim} numbers, then of {found[-1].shape[1]}.")
        return [torch.from_numpy(np.concatenate(found))]

    def told(tokens_NT: np.ndarray) -> dict[str, Any]:
        broken = sum(BROKEN in text for text in chunk_texts(tokenizer, tokens_NT))
        return {"texts_broken": broken, "controls_absent": ["untrained"]}

    origin = {"callable": called, "said": said, "data tokenizer": sha256_json(tokenizer.to_str())}
    return Encoder(
        name=called,
        kind="callable",
        training="unknown",
        identity=f"callable {called} {said}" if name else f"callable {uuid4().hex}",  # never the same one again
        encode=encode,
        kinds=[(origin, memory_dim)],
        kept=name is not None,
        told=told,
    )


def from_vectors(vectors: Any, texts: GivenTexts, name: str) -> Encoder:
    """Vectors as an encoder of the texts that they are of, and of nothing else.

    Args:
        vectors: an array [K, M], or an .npy or .safetensors file with one; vector k is of text k.
        texts: all K of them.
        name: what it is called.

    Raises:
        UsageError: no vectors, or not one for each text.
    """
    array_KM = as_vectors(read_vectors(vectors), len(texts.texts), name)
    origin = {"vectors": sha256_rows(array_KM)}

    def encode(ids_BT: Tensor) -> list[Tensor]:
        return [torch.from_numpy(array_KM[texts.numbers(ids_BT.cpu().numpy())])]

    def told(tokens_NT: np.ndarray) -> dict[str, Any]:
        return texts.told(tokens_NT.shape[1]) | {"controls_absent": ["untrained", "random-tokens"]}

    return Encoder(
        name=name,
        kind="vectors",
        training="unknown",
        identity=f"vectors {origin['vectors']}",
        encode=encode,
        kinds=[(origin, array_KM.shape[1])],
        kept=False,
        any_tokens=False,
        told=told,
    )


def as_vectors(returned: Any, count: int, name: str) -> np.ndarray:
    """Whatever holds vectors as float32 [count, M].

    Raises:
        UsageError: it holds something else.
    """
    if isinstance(returned, Sequence) and returned and isinstance(returned[0], Tensor):
        returned = [tensor.detach().float().cpu().numpy() for tensor in returned]
    if isinstance(returned, Tensor):
        returned = returned.detach().float().cpu().numpy()
    try:
        with np.errstate(over="ignore"):  # told below, as numbers that are not finite
            array = np.asarray(returned if returned is not None else "nothing", dtype=np.float32)
    except Exception:
        raise UsageError(
            f"{name} gives {type(returned).__name__}, not vectors: one for each text, all of one length, in numbers."
        ) from None
    if array.ndim != 2 or not array.shape[1]:
        raise UsageError(f"{name} gives an array {list(array.shape)}: vectors are [texts, numbers], one row a text.")
    if len(array) != count:
        raise UsageError(f"{name} gives {len(array)} vectors for {count} texts: there must be one for each.")
    if not np.isfinite(array).all():
        row = int((~np.isfinite(array)).any(1).argmax())
        raise UsageError(f"{name} has a number that is not finite in the vector of text {row} (counted from 0).")
    return np.ascontiguousarray(array)


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON may tell half a character."""
    return text == text.encode("utf-8", "replace").decode()


def read_vectors(vectors: Any) -> Any:
    """The array in an .npy file, or the one tensor in a .safetensors file; what is no path is left as it is.

    Raises:
        UsageError: no such file, or there is not one array in it.
    """
    if not isinstance(vectors, str | Path):
        return vectors
    path = Path(vectors)
    if not path.is_file():
        raise UsageError(f"{path} is not there: name a file of vectors ({' or '.join(SUFFIXES)}).")
    if path.suffix == ".npy":
        return read_npy(path, mapped=False)
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: vectors are read from {' or '.join(SUFFIXES)}.")
    from safetensors.torch import load_file

    with refusing(f"{path} is no whole .safetensors file", ": save the vectors anew"):
        tensors = load_file(path)
    if len(tensors) != 1:
        raise UsageError(f"{path} holds {len(tensors)} tensors ({', '.join(tensors)}): vectors are a file's only one.")
    return next(iter(tensors.values()))


def read_texts(texts: Path | str | Sequence[str]) -> list[Any]:
    """Texts in their order: a list, a file with one a line (.txt; .jsonl: a string or `{"text": ...}`) or a .json list.

    An empty line is an empty text, since vectors are told apart by their place alone.

    Raises:
        UsageError: no such file, or something else in it.
    """
    if not isinstance(texts, str | Path):
        told, where = list(texts), "the list of texts"
    else:
        path = Path(texts)
        where = str(path)
        try:
            if path.suffix == ".json":
                told = read_json(path)
            else:
                lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
                lines = [line.removesuffix("\r") for line in lines]
                told = [json.loads(line) for line in lines] if path.suffix in (".jsonl", ".ndjson") else lines
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror}): name a file of texts.") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path} cannot be read as texts ({first_line(error)}).") from None
        if isinstance(told, list):
            told = [row.get("text") if isinstance(row, dict) else row for row in told]
    if not isinstance(told, list) or not told:
        raise UsageError(f"{where} holds no list of texts: one a line (.txt, .jsonl), or a .json list.")
    if (wrong := next((i for i, text in enumerate(told) if not isinstance(text, str)), None)) is not None:
        raise UsageError(f"{where}: text {wrong} (counted from 0) is {type(told[wrong]).__name__}, not a string.")
    if (wrong := next((i for i, text in enumerate(told) if not is_unicode(str(text))), None)) is not None:
        raise UsageError(f"{where}: text {wrong} (counted from 0) is not valid Unicode (a lone surrogate).")
    return told
