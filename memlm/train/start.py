"""What a run begins with: another model's weights, and parts that stay as they are.

Of a model of the same shape (the number of chunks may differ where no weight depends on it) all weights are taken. Of
any other one the parts that both have (`ModelShape.parts`): the encoder, which must be equal, and then an equal decoder
of chunks, an equal maker of soft tokens, ... Everything else begins as the run's seed makes it.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from memlm import ui
from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.files import read_json, sha256_file
from memlm.kinds import ModelShape
from memlm.loading import find_model, load_model
from memlm.models.model import TextMemory
from memlm.records import to_dict
from memlm.tokens.tokenizer import load_tokenizer
from memlm.train.config import TrainConfig

ORIGIN = ("data", "start", "start_sha256")  # in environment.json: what a run was made from


def find_start(start: Path, out: Path) -> Path:
    """The folder that `start` means for a run in `out`: a bare name is a run beside it, if there is one."""
    beside = out.parent / start
    return beside if len(start.parts) == 1 and beside.exists() else start


def refuse_changed(out: Path, config: TrainConfig) -> None:
    """Refuse to go on with a run whose data or start are not what they were; what is gone has not changed.

    Raises:
        UsageError: it tells the hash of then and of now.
    """
    path = out / "environment.json"
    told = read_json(path) if path.exists() else {}
    if "data" in told and (config.data / "data.json").exists():
        _refuse(out, f"data {config.data}", told["data"], Corpus.open(config.data).hash)
    start = find_start(config.start, out) if config.start else None
    if "start_sha256" in told and start is not None and start.exists():
        _refuse(out, f"the model {start}", told["start_sha256"], sha256_file(find_model(start) / "model.safetensors"))


def _refuse(out: Path, what: str, then: str, now: str) -> None:
    if then != now:
        raise UsageError(
            f"{out} was begun from {what} when that was {then[:12]} (SHA-256); it is {now[:12]} now: make it as it "
            "was, or begin another run."
        )


def start_from(
    model: TextMemory, folder: Path, tokenizer: Tokenizer, *, fresh_embedding: bool = False, shrink_perturb: float = 0.0
) -> str:
    """Copy into `model` what fits it of the model in `folder`; returns the fingerprint of the latter.

    Args:
        model: freshly made.
        folder: a run or a saved model.
        tokenizer: of the data that `model` will be trained on.
        fresh_embedding: leave the encoder's word embeddings as they were made.
        shrink_perturb: r: the matrices W of the decoder's blocks become (1 - r) W + r W_init. What was learnt is learnt
            again soon, and new tasks are learnt better than from W (Ash and Adams, arXiv 1910.08475; LOG.md).

    Raises:
        UsageError: no model there; its tokens have other meanings; nothing of it fits, or has no matrices to perturb.
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
    fresh = {name: p.detach().clone() for name, p in _decoder_matrices(model, folder).items()} if shrink_perturb else {}
    for mine, theirs in taken.items():
        model.get_submodule(mine).load_state_dict(source.get_submodule(theirs).state_dict())
    if embed is not None:
        with torch.no_grad():
            _encoder_embedding(model).copy_(embed)
    with torch.no_grad():
        for name, p in fresh.items():
            model.get_parameter(name).lerp_(p, shrink_perturb)
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
    if mine.of_any_length() == theirs.of_any_length():
        return {"": ""}
    new, old = mine.parts, theirs.parts
    for which, parts in (("it", old), ("the new model", new)):
        if "encoder" not in parts:
            raise UsageError(f"nothing of {name} fits: {which} has no encoder, and the shapes are not the same.")
    if new["encoder"].same != old["encoder"].same:
        what = _difference(to_dict(old["encoder"].same), to_dict(new["encoder"].same))
        raise UsageError(f"nothing of {name} fits: in its encoder {what}.")
    return {new[key].module: old[key].module for key in new if key in old and new[key].same == old[key].same}


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


def _difference(theirs: dict[str, Any], mine: dict[str, Any]) -> str:
    """The first thing in which two records of one kind differ: `stack.width is 64, not 128`."""
    for name, value in theirs.items():
        if isinstance(value, dict) and value != mine[name]:
            return f"{name}.{_difference(value, mine[name])}"
        if value != mine[name]:
            return f"{name} is {value}, not {mine[name]}"
    raise ValueError("the two are equal")


def _decoder_matrices(model: TextMemory, folder: Path) -> dict[str, torch.nn.Parameter]:
    matrices = {n: p for n, p in model.named_parameters() if n.startswith("decoder.blocks.") and p.ndim > 1}
    if not matrices:
        raise UsageError(f"a decoder that starts from {folder} has no blocks of ours: leave shrink_perturb out.")
    return matrices


def _encoder_embedding(model: TextMemory) -> torch.Tensor:
    embed = getattr(model.encoder, "embed", None)
    if embed is None:
        raise UsageError("there are no word embeddings to learn anew: the model has no encoder with its own.")
    return embed.weight
