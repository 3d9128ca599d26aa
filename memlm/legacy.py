"""Configs and models saved by earlier versions, in the words of today, or refused with a sentence.

0.1 saved no kinds: a model's shape was known by its fields, and a memory model's reader was a name among its fields.
"""

from typing import Any

from memlm.errors import UsageError

_ENCODER = {"chunk_tokens", "memory_dim", "memory_norm", "readout"}
_FIELDS = {  # what tells a shape of 0.1: exactly these fields
    "autoencoder": _ENCODER | {"encoder", "bridge", "decoder"},
    "causal": {"chunk_tokens", "stack", "readout"},
    "memory": {"encoder", "decoder", "chunks", "reader", "vectors", "bridge", "bridge_width", "unroll", "shift"}
    | {"select", "key_width", "positions"},
    "recurrent": {"encoder", "decoder", "chunks"},
    "oracle": {"encoder", "decoder", "given"},
    "soft": {"base", "encoder", "decoder", "negatives"},
    "pretrained": {"encoder", "chunks", "reader", "vectors", "soft", "positions", "decoder"},
}
# Fields that kinds have since, and what they were before.
_SINCE = {"copying": {"lora_rank": 0, "lora_layers": 12}, "pointer": {"near": 0, "surprise": 0}}


def modern_config(told: Any, where: str) -> Any:
    """A run's config, or a curriculum's, as this version reads it.

    Raises:
        UsageError: a model that is not there any more.
    """
    if not isinstance(told, dict):
        return told
    if isinstance(stages := told.get("stages"), dict):
        return told | {
            "stages": {name: modern_config(stage, f"{where}.stages.{name}") for name, stage in stages.items()}
        }
    told = {"context": 0, "parallel": "ddp", **told}
    if isinstance(objective := told.get("objective"), str):
        told["objective"] = objective.replace("near-facts", "facts").replace("linked-facts", "facts")
    if isinstance(told.get("optim"), dict):
        told["optim"] = {"matrix_block": 0, **told["optim"]}
    if not isinstance(told.get("model"), dict):
        return told
    new = told | {"model": modern_shape(told["model"], f"{where}.model")}
    if "renew" in new:
        new["shrink_perturb"] = new.pop("renew")
    return new


def modern_shape(told: dict[str, Any], where: str) -> dict[str, Any]:
    """A model's shape as this version reads it.

    Raises:
        UsageError: it is of no kind that 0.1 had, or of a model that is not there any more.
    """
    if "kind" in told:
        if isinstance(reader := told.get("reader"), dict):
            if reader.get("kind") == "soft":
                raise _left("soft", where)
            told = told | {"reader": _with_new_fields(reader)}
        return _with_new_fields(told)
    kind = next((kind for kind, fields in _FIELDS.items() if told.keys() == fields), None)
    if kind is None:
        raise UsageError(f"{where} lacks the field 'kind', and memlm 0.1 had no model with just its fields.")
    new = {"kind": kind, **told}
    if kind in ("memory", "recurrent", "oracle", "soft", "pretrained"):
        new["encoder"] = {"kind": "base" if "layer" in told["encoder"] else "stack", **told["encoder"]}
    if kind == "soft":
        new["decoder"] = {"kind": "soft-tokens", **told["decoder"]}
    if kind == "pretrained":
        soft, vectors = new.pop("soft"), new.pop("vectors")
        slots = told["reader"] == "slots"
        new["reader"] = {"kind": "soft-tokens", **soft} if slots else {"kind": "vector", "vectors": vectors}
    if kind == "memory":
        return _memory(new, where)
    return new


def _memory(told: dict[str, Any], where: str) -> dict[str, Any]:
    """A memory model's shape: a baseline of all tokens is a kind of its own, a reader has its own fields."""
    if told["reader"] == "full":
        tokens = told["encoder"]["chunk_tokens"]
        return {"kind": "full", "chunks": told["chunks"], "chunk_tokens": tokens, "decoder": told["decoder"]}
    fields = {"none": (), "vector": ("vectors",)}
    if told["reader"] not in fields:
        raise _left(told["reader"], where)
    reader = {"kind": told["reader"], **{name: told[name] for name in fields[told["reader"]]}}
    kept = ("kind", "chunks", "encoder", "decoder", "positions")
    return {**{name: told[name] for name in kept}, "reader": reader}


def _left(reader: str, where: str) -> UsageError:
    """What is said of a reader that another one beat in everything."""
    return UsageError(f"{where}: the reader {reader!r} left memlm: train one that copies, memlm train memory.")


def _with_new_fields(told: dict[str, Any]) -> dict[str, Any]:
    """What a kind has had since it was first saved, as it was before."""
    return {**_SINCE.get(str(told.get("kind")), {}), **told}
