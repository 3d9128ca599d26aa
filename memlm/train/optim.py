"""Optimisers, and the course of the learning rate."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from memlm.train.config import OptimConfig
from memlm.train.muon import Muon

# Parts whose rows are tokens or places: as ours are named, and in models of others (Llama, GPT-2, NeoX, BERT).
_TABLES = {"embed", "head", "start", "place"} | {
    *("embed_tokens", "lm_head", "embed_out", "wte", "wpe", "embed_positions"),
    *("word_embeddings", "position_embeddings", "token_type_embeddings", "embed_in"),
}

Named = Sequence[tuple[str, nn.Parameter]]


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The factor on every learning rate at `step` of `steps`: linear warm-up, constant, linear decay to `final`."""
    rise = min(1.0, (step + 1) / max(1, config.warmup))
    share = step / steps
    if share <= config.decay_from:
        return rise
    return rise * max(config.final, 1 - (1 - config.final) * (share - config.decay_from) / (1 - config.decay_from))


def adamw(params: Named, config: OptimConfig) -> list[torch.optim.Optimizer]:
    """AdamW over all of them."""
    betas = (config.beta1, config.beta2)
    trained = [p for _, p in params]
    if not trained:
        return []
    return [torch.optim.AdamW(trained, lr=config.lr, betas=betas, weight_decay=config.weight_decay, fused=True)]


def muon(params: Named, config: OptimConfig) -> list[torch.optim.Optimizer]:
    """Muon over the hidden matrices, AdamW over the rest.

    Embedding and head stay with AdamW, since Muon's update treats every direction alike: their rows are tokens of very
    unequal frequency (kellerjordan.github.io/posts/muon).
    """
    hidden = [(name, p) for name, p in params if _is_hidden_matrix(name, p)]
    rest = [(name, p) for name, p in params if not _is_hidden_matrix(name, p)]
    if not hidden:
        return adamw(rest, config)
    shared = {"weight_decay": config.weight_decay, "block": config.matrix_block}
    return [*adamw(rest, config), Muon([p for _, p in hidden], lr=config.matrix_lr, **shared)]


OPTIMIZERS: dict[str, Callable[[Named, OptimConfig], list[torch.optim.Optimizer]]] = {"adamw": adamw, "muon": muon}


def build_optimizers(model: nn.Module, config: OptimConfig) -> list[torch.optim.Optimizer]:
    """The optimisers of `config` over everything that is trained."""
    optimizers = OPTIMIZERS[config.kind]([(name, p) for name, p in model.named_parameters() if p.requires_grad], config)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def set_learning_rate(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's rate to `factor` times what it was made with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor


def optimizer_tensors(optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The whole state of the optimisers as named tensors; their settings come from the config and the step."""
    return {name: tensor.detach() for name, tensor in _named_state(optimizers)}


def load_optimizer_tensors(optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for name, tensor in tensors.items():
        optimizer, index, key = name.split(".", 2)
        states[int(optimizer)].setdefault(int(index), {})[key] = tensor
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def parameter_of(optimizers: list[torch.optim.Optimizer], name: str) -> Tensor:
    """The parameter that a tensor of such a name belongs to."""
    optimizer, index, _ = name.split(".", 2)
    return [p for group in optimizers[int(optimizer)].param_groups for p in group["params"]][int(index)]


def _named_state(optimizers: list[torch.optim.Optimizer]) -> Iterator[tuple[str, Tensor]]:
    for i, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                yield f"{i}.{index}.{key}", value


def _is_hidden_matrix(name: str, param: Tensor) -> bool:
    return param.ndim == 2 and not _TABLES & set(name.split("."))
