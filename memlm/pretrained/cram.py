"""One optimised vector for a text: what a frozen language model could be told by one input embedding.

The vector stands in the place of the first token and is the only thing that is trained; the model then regenerates the
text (Kuratov et al. 2025, Cramming 1568 tokens into a single vector). No encoder that reads a text in one pass does
better, so that it is a ceiling for what memories can tell this decoder; found by descent, it is a lower bound of that
ceiling. It starts from the mean embedding: from zeros, RMSNorm divides zero by zero in its gradient.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from memlm import ui
from memlm.errors import UsageError, WorkError
from memlm.nn.loss import IGNORED
from memlm.pretrained.opening import Pretrained

_LR = 0.02  # in units of the mean spread of the embeddings


@dataclass(frozen=True)
class Crammed:
    """What came out of N vectors, of texts of at most T tokens; places beyond a text hold False and 0."""

    vectors_ND: Tensor
    scored_NT: Tensor  # which places hold a token
    forced_NT: Tensor  # right, all earlier tokens being the true ones
    free_NT: Tensor  # right, the model reading what it wrote
    nats_N: Tensor  # cross-entropy of each text, teacher-forced
    before_N: Tensor  # the same from the mean embedding, where each vector began
    steps: int  # that were taken


def cram(opened: Pretrained, rows: list[list[int]], *, steps: int = 300) -> Crammed:
    """Optimise one input embedding for each text, all texts in one batch; stops early when all tokens are right.

    `opened` has its head, `rows` are token ids of each text.
    UsageError where it is no causal language model, WorkError where the loss is no number.
    """
    if opened.kind != "causal":
        raise UsageError(f"{opened.name} is no causal language model: only those regenerate a text from a vector.")
    model, embed = opened.model, opened.embedding
    longest = max(map(len, rows))
    labels_NT = torch.tensor([row + [IGNORED] * (longest - len(row)) for row in rows], device=model.device)
    scored_NT = labels_NT != IGNORED
    mask_NT = torch.cat([scored_NT[:, :1], scored_NT[:, :-1]], 1).long()
    with torch.no_grad():
        weight_VD = embed.weight.float()
        told_NTD = embed(labels_NT[:, :-1].clamp(min=0))
    vectors_ND = weight_VD.mean(0).expand(len(rows), -1).clone().requires_grad_(True)
    optimizer = torch.optim.Adam([vectors_ND], lr=_LR * float(weight_VD.std(0).mean()), betas=(0.9, 0.9))
    best, kept_ND = torch.full((len(rows),), torch.inf, device=model.device), vectors_ND.detach().clone()
    forced_NT, before_N, taken = torch.zeros_like(scored_NT), best, 0
    with ui.progress(unit="steps") as bar:
        task = bar.add_task(f"{opened.name}: cram", total=steps)
        for taken in range(steps + 1):
            read_NTD = torch.cat([vectors_ND[:, None].to(told_NTD.dtype), told_NTD], 1)
            logits_NTV = model(inputs_embeds=read_NTD, attention_mask=mask_NT).logits.float()
            nats_NT = F.cross_entropy(logits_NTV.mT, labels_NT, ignore_index=IGNORED, reduction="none")
            nats_N = nats_NT.sum(1).detach()
            if not torch.isfinite(nats_N).all():
                raise WorkError(f"cramming into {opened.name} left the numbers after {taken} steps: lower the rate.")
            before_N = nats_N if taken == 0 else before_N
            better_N = nats_N < best
            right_NT = (logits_NTV.argmax(-1) == labels_NT) & scored_NT
            forced_NT = torch.where(better_N[:, None], right_NT, forced_NT)
            kept_ND[better_N], best = vectors_ND.detach()[better_N], torch.minimum(best, nats_N)
            if taken == steps or bool((forced_NT == scored_NT).all()):
                break
            optimizer.zero_grad()
            (nats_NT.sum(1) / scored_NT.sum(1)).sum().backward()
            optimizer.step()
            bar.advance(task)
    free_NT = (write(opened, kept_ND, longest) == labels_NT) & scored_NT
    return Crammed(kept_ND, scored_NT, forced_NT, free_NT, best, before_N, taken)


@torch.no_grad()
def write(opened: Pretrained, vectors_ND: Tensor, tokens: int) -> Tensor:
    """The most likely tokens after each vector, the model reading what it wrote [N, tokens]."""
    model, embed = opened.model, opened.embedding
    read_N1D, past, written = vectors_ND[:, None].to(embed.weight.dtype), None, []
    for _ in range(tokens):
        out = model(inputs_embeds=read_N1D, past_key_values=past, use_cache=True)
        written.append(out.logits[:, -1].argmax(-1))
        read_N1D, past = embed(written[-1])[:, None], out.past_key_values
    return torch.stack(written, 1)
