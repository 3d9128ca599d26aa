"""A causal language model of transformers, opened from a folder."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from memlm.errors import UsageError


@dataclass(frozen=True)
class Pretrained:
    """A model of others with its tokenizer."""

    name: str
    source: str
    model: Any
    tokenizer: Any
    kind: str

    def fingerprint(self) -> str:
        """SHA-256 over every weight."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def open_pretrained(
    name: str, *, head: bool = False, device: str = "cpu", precision: str = "fp32", quantize: str | None = None
) -> Pretrained:
    """Open a model; `head` keeps the language-model head."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    if not Path(name).is_dir():
        raise UsageError(f"{name} is not there: name a folder with a model of transformers.")
    kind = AutoModelForCausalLM if head else AutoModel
    model = kind.from_pretrained(name, dtype=torch.float32).eval()
    return Pretrained(name, str(name), model, AutoTokenizer.from_pretrained(name), "causal")
