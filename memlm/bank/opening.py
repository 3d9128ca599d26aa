"""A model with its tokenizer, from a run or a saved folder, on the device that was asked for."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from memlm.bank.bank import Bank
from memlm.errors import UsageError
from memlm.loading import find_model, load_model
from memlm.models.model import TextMemory
from memlm.precision import Device, device_of, settle
from memlm.tokens.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def open_model(path: Path | str, device: Device = "auto") -> tuple[TextMemory, "Tokenizer"]:
    """Load a model, frozen, and the tokenizer that was saved beside it; special tokens in a text are text to it.

    Raises:
        UsageError: there is no model of ours, no tokenizer beside it, or no such device.
    """
    where = device_of(device)
    settle(where)
    model = load_model(path).requires_grad_(False)
    tokenizer = load_tokenizer(find_model(Path(path)))
    torch.nn.Module.to(model, where)
    return model, tokenizer


def open_maker(
    bank: Bank, model: Path | str | None = None, device: Device = "auto", then: str = "name it with --model"
) -> tuple[TextMemory, "Tokenizer"]:
    """The model that reads a bank: `model`, or the one that the bank was made with if it is still there.

    `then` tells what to do where it is not.

    Raises:
        UsageError: it is not there, or its memories are not the bank's.
    """
    path = bank.made_by() if model is None else Path(model)
    if path is None or (model is None and not path.exists()):
        was = f"the model that made it, {bank.meta.model}, is" if path else "the model that made it is"
        raise UsageError(f"{bank.path} is there, but {was} not found: {then}.")
    opened = open_model(path, device)
    bank.check_encoder(*opened)
    return opened
