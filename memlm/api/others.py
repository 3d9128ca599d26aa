"""Models of others behind the public interface: they encode by hidden states, and causal ones generate."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from memlm.api.face import Model, Texts, checked_texts
from memlm.api.own import OwnModel
from memlm.bank.bank import Bank
from memlm.bank.memories import Memories, Origin
from memlm.continuation import Continuation
from memlm.loading import build_model, is_ours
from memlm.precision import Device, device_of

if TYPE_CHECKING:
    from memlm.pretrained.hidden import HiddenReader


class OthersModel(Model):
    """A model of others: encodes by its hidden states; a causal one generates, and reads banks of any encoder.

    Attributes:
        reader: reads one vector out of the hidden states of one layer.
    """

    def __init__(self, name: str, reader: "HiddenReader"):
        super().__init__(name, reader.opened.most_tokens, reader.dims[0])
        view = reader.views[0]
        encoder = f"{reader.opened.fingerprint()} layer {view.layer} {view.readout}"
        self._generating: OwnModel | None = None
        self.reader, self._origin = reader, Origin(encoder, "its own", self.chunk_tokens, self.memory_dim)

    def encode(self, texts: Texts, *, batch: int = 32) -> Memories:
        """As `Model.encode`."""
        told, reader = checked_texts(texts), replace(self.reader, batch=batch)
        rows, chunks = reader.windows(told)
        empty_0M = np.empty((0, self.memory_dim), np.float32)
        vectors_KM = reader.read(rows)[0].numpy() if rows else empty_0M
        return Memories(vectors_KM, chunks, told, self._origin)

    def go_on(
        self, prompt: str, memories: Memories | Bank | None, stream: Callable[[str], Any] | None, **how: Any
    ) -> Continuation:
        """As `Model.go_on`: passages of a bank are read as its own words, nothing is trained."""
        if self._generating is None:
            self._generating = over_others(self.name, cast(Device, self.reader.opened.model.device.type))
        return self._generating.go_on(prompt, memories, stream, **how)


def of_others(name: str) -> bool:
    """Whether a name is of a model of others: a folder or file that is none of ours, a known name, one of the hub."""
    from memlm.pretrained.places import WHEELS

    path = Path(name)
    if path.exists():
        return path.is_file() or ((path / "config.json").is_file() and not is_ours(path))
    return name in WHEELS or (name.count("/") == 1 and not path.parent.exists())


def over_others(name: str, device: Device = "auto") -> "OwnModel":
    """A causal language model of others that reads banks of any encoder, without a copy head.

    Raises:
        UsageError: there is no such model, or it is no causal one.
    """
    from memlm.pretrained.opening import open_pretrained
    from memlm.pretrained.shapes import CopyingShape
    from memlm.pretrained.transplant import tokenizer_of

    tokenizer = tokenizer_of(open_pretrained(name, head=True))
    model = build_model(CopyingShape(base=name), tokenizer.get_vocab_size(), 0).eval().requires_grad_(False)
    torch.nn.Module.to(model, device_of(device))
    return OwnModel(name, model, tokenizer)
