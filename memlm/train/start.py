"""What a run begins with: another model's weights, and parts that stay as they are.

| the model to start from has | taken are |
|---|---|
| the same shape (the number of chunks may differ where no weight depends on it) | all its weights |
| an equal encoder | the encoder ... |
| ... and an equal bridge, an autoencoder's or that of a reader `slots` or `select` | ... and the bridge |
| ... and an equal decoder of chunks, an autoencoder's or that of a reader `soft` | ... and that |
| ... and an equal reader of soft tokens, for the same language model | ... and the reader |

Everything else begins as the run's seed makes it.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from memlm import ui
from memlm.data.tokenizer import load_tokenizer
from memlm.errors import UsageError
from memlm.loading import find_model, load_model
from memlm.memory.encoder import NoEncoder
from memlm.models.model import TextMemory
from memlm.models.shapes import AutoencoderShape, MemoryShape, ModelShape, RecurrentShape
from memlm.pretrained.shapes import PretrainedShape, SoftAutoencoderShape
from memlm.records import to_dict


def find_start(start: Path, out: Path) -> Path:
    """The folder that `start` means for a run in `out`: a bare name is a run beside it, if there is one."""
    beside = out.parent / start
    return beside if len(start.parts) == 1 and beside.exists() else start


def start_from(
    model: TextMemory, folder: Path, tokenizer: Tokenizer, *, fresh_embedding: bool = False, renew: float = 0.0
) -> str:
    """Copy into `model` what fits it of the model in `folder`; returns the fingerprint of the latter.

    Args:
        model: freshly made.
        folder: a run or a saved model.
        tokenizer: of the data that `model` will be trained on.
        fresh_embedding: leave the encoder's word embeddings as they were made.
        renew: share of the decoder's matrices that stays as it was made. What was learnt is learnt again soon, and what
            is new is learnt better than from weights that are set (shrink and perturb, arXiv 1910.08475; LOG.md).

    Raises:
        UsageError: no model there; its tokens have other meanings; nothing of it fits, or has matrices to renew.
    """
    source = load_model(folder)
    if source.config.vocab_size != model.config.vocab_size:
        raise UsageError(
            f"{folder} knows {source.config.vocab_size} tokens and the data has {model.config.vocab_size}: "
            "start from a model that was trained on the same tokenizer."
        )
    if load_tokenizer(find_model(folder)).get_vocab() != tokenizer.get_vocab():
        raise UsageError(f"{folder} was trained with another tokenizer than the data's: prepare the data with its own.")
    if getattr(source.config, "base_fingerprint", None) != getattr(model.config, "base_fingerprint", None):
        raise UsageError(f"{folder} was made for another language model: start from one for the same model.")
    taken = fitting(model.config.read_shape(), source.config.read_shape(), str(folder))
    embed = _encoder_embedding(model).detach().clone() if fresh_embedding else None
    fresh = {name: p.detach().clone() for name, p in _decoder_matrices(model, folder).items()} if renew else {}
    for mine, theirs in taken.items():
        model.get_submodule(mine).load_state_dict(source.get_submodule(theirs).state_dict())
    if embed is not None:
        with torch.no_grad():
            _encoder_embedding(model).copy_(embed)
    with torch.no_grad():
        for name, p in fresh.items():
            model.get_parameter(name).lerp_(p, renew)
    ui.say(f"starts with {', '.join(name or 'all weights' for name in taken)} of {folder}")
    return source.fingerprint()


def fitting(mine: ModelShape, theirs: ModelShape, name: str) -> dict[str, str]:
    """What a new model takes of an old one: its submodules -> the old one's; "" is a whole model.

    Args:
        mine: the new model's shape.
        theirs: the old one's.
        name: what the old one is called.

    Raises:
        UsageError: nothing fits; it says what differs.
    """
    if _without_chunks(mine) == _without_chunks(theirs):
        return {"": ""}
    new, old = _parts(mine), _parts(theirs)
    for which, parts in (("it", old), ("the new model", new)):
        if "encoder" not in parts:
            raise UsageError(f"nothing of {name} fits: {which} has no encoder, and the shapes are not the same.")
    if new["encoder"] != old["encoder"]:
        what = _difference(to_dict(old["encoder"][1]), to_dict(new["encoder"][1]))
        raise UsageError(f"nothing of {name} fits: in its encoder {what}.")
    both = [key for key in new if key in old and new[key][1] == old[key][1]]
    return {new[key][0]: old[key][0] for key in both}


def freeze(model: TextMemory, parts: tuple[str, ...], *, fresh_embedding: bool) -> None:
    """Take `parts` out of the training, but for the encoder's word embeddings if they are to be learnt anew.

    Raises:
        UsageError: a part that the model does not have, or nothing is left to train.
    """
    named = dict(model.named_parameters())
    for part in parts:
        held = [p for name, p in named.items() if name == part or name.startswith(f"{part}.")]
        if not held:
            known = dict.fromkeys(name.split(".")[0] for name in named)
            raise UsageError(f"the model has no part {part!r} to freeze; its parts are {', '.join(known)}.")
        for p in held:
            p.requires_grad_(False)
    if fresh_embedding:
        _encoder_embedding(model).requires_grad_(True)
    if not any(p.requires_grad for p in named.values()):
        raise UsageError(f"nothing is left to train with {', '.join(parts)} frozen: leave a part out.")


def _parts(shape: ModelShape) -> dict[str, tuple[str, object]]:
    """What models of different kinds can have in common -> (its name in this kind, what must be equal)."""
    parts: dict[str, tuple[str, object]] = {}
    if not (isinstance(shape, MemoryShape) and shape.reader in ("none", "full")):
        parts["encoder"] = ("encoder", shape.encoder_shape)
    size = (shape.chunk_tokens, shape.memory_dim)
    if isinstance(shape, AutoencoderShape):
        parts["bridge"] = ("decoder.bridge", (*size, shape.bridge, shape.decoder.width))
        parts["text"] = ("decoder", (*size, shape.bridge, shape.decoder))
    if isinstance(shape, MemoryShape) and shape.reader == "soft":
        parts["text"] = ("reader.text", (*size, shape.bridge, shape.unroll))
    if isinstance(shape, MemoryShape) and shape.reader in ("slots", "select"):
        parts["bridge"] = ("reader.bridge", (*size, shape.bridge, shape.bridge_width))
    if isinstance(shape, SoftAutoencoderShape) or (isinstance(shape, PretrainedShape) and shape.reader == "slots"):
        # What makes soft tokens of a memory.
        soft = shape.soft if isinstance(shape, PretrainedShape) else shape.decoder
        parts["soft"] = ("reader", (*size, soft))
    return parts


def _without_chunks(shape: ModelShape) -> ModelShape:
    """The shape as its weights see it, of any selection, and of any number of chunks but for fixed positions."""
    if isinstance(shape, MemoryShape):
        shape = replace(shape, select=0)
    free = isinstance(shape, RecurrentShape | PretrainedShape) or (
        isinstance(shape, MemoryShape) and shape.positions != "fixed"
    )
    return replace(shape, chunks=1) if free else shape


def _difference(theirs: dict[str, Any], mine: dict[str, Any]) -> str:
    """The first thing in which two records of one kind differ: `stack.width is 64, not 128`."""
    for name, value in theirs.items():
        if isinstance(value, dict) and value != mine[name]:
            return f"{name}.{_difference(value, mine[name])}"
        if value != mine[name]:
            return f"{name} is {value}, not {mine[name]}"
    raise ValueError("the two are equal")


def _decoder_matrices(model: TextMemory, folder: Path) -> dict[str, torch.nn.Parameter]:
    layers = "decoder.blocks.", "reader.looks."  # what reads in every layer is as much of the decoder
    matrices = {n: p for n, p in model.named_parameters() if n.startswith(layers) and p.ndim > 1}
    if not matrices:
        raise UsageError(f"a decoder that starts from {folder} has no blocks of ours to renew: leave renew out.")
    return matrices


def _encoder_embedding(model: TextMemory) -> torch.Tensor:
    if isinstance(model.encoder, NoEncoder):
        raise UsageError("there are no word embeddings to learn anew: this model forms no memories.")
    return model.encoder.embed.weight
