"""A text found again from its hidden states, without any training: the upper bound of what they hold.

Token by token: after a known prefix, every candidate token is tried, and the one whose hidden state is nearest to the
given one is taken (Nikolaou et al. 2025, Language models are injective and hence invertible). What a probe leaves of
the same states is thus a matter of the probe, not of the states. It needs the state of every place; a single last
state would have to be searched over all texts.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memlm import ui
from memlm.errors import UsageError
from memlm.huggingface import DynamicCache
from memlm.pretrained.opening import Pretrained


@dataclass(frozen=True)
class Inverted:
    """One text, found again [T]."""

    true_T: Tensor  # which tokens were found after the true prefix
    found_T: Tensor  # which were found after what had been found itself, nothing of the text being given
    within_T: Tensor  # which are among the candidates at all


def invert(opened: Pretrained, rows: list[list[int]], layer: int, candidates: Tensor) -> list[Inverted]:
    """Find texts, `rows` of token ids, again from the hidden states of a layer, 1 to L, of a model without a head.

    `candidates` are the ids that are tried at each place [K]. UsageError where it is no causal model: the state of a
    place then also depends on what follows.
    """
    if opened.kind != "causal":
        raise UsageError(f"{opened.name} is no causal model: its states depend on later tokens, which are not known.")
    candidates = candidates.to(opened.model.device)
    found = []
    with ui.progress(unit="texts") as bar:
        task = bar.add_task(f"{opened.name}: inverted", total=len(rows))
        for row in rows:
            ids_T = torch.tensor(row, device=opened.model.device)
            target_TD = _states(opened, ids_T[None], layer)[0]
            true = [_nearest(opened, ids_T[:t], target_TD[t], layer, candidates) for t in range(len(row))]
            true_T = torch.stack(true) == ids_T
            written = list(true)
            # Up to the first miss the found prefix is the true one; only what follows is searched again.
            first = int(true_T.int().argmin()) if not bool(true_T.all()) else len(row)
            for t in range(first + 1, len(row)):
                written[t] = _nearest(opened, torch.stack(written[:t]), target_TD[t], layer, candidates)
            within_T = torch.isin(ids_T, candidates)
            found.append(Inverted(true_T.cpu(), (torch.stack(written) == ids_T).cpu(), within_T.cpu()))
            bar.advance(task)
    return found


@torch.inference_mode()
def _nearest(opened: Pretrained, prefix_T: Tensor, target_D: Tensor, layer: int, candidates: Tensor) -> Tensor:
    """The candidate whose state after the prefix is nearest to the target; all are tried in one batch."""
    past: Any = DynamicCache(config=opened.model.config)
    if len(prefix_T):
        past = opened.model(input_ids=prefix_T[None], past_key_values=past, use_cache=True).past_key_values
        past.batch_repeat_interleave(len(candidates))
    state_KD = _states(opened, candidates[:, None], layer, past)[:, -1]
    return candidates[(state_KD - target_D).square().sum(-1).argmin()]


@torch.inference_mode()
def _states(opened: Pretrained, ids_BT: Tensor, layer: int, past: Any = None) -> Tensor:
    """Hidden states of a layer in fp32 [B, T, D]."""
    out = opened.model(input_ids=ids_BT, past_key_values=past, use_cache=past is not None, output_hidden_states=True)
    return opened.state(out, layer).float()
