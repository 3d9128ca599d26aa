"""What a forward pass of a few tokens shows of an opened model, in the place of what its config and class name say.

Three rows of tokens, of which the second differs in its last token and the third in its first, tell

- whether it reads text and gives a state for each token at all;
- whether it is causal: then no state before the last token changes in the second row;
- whether layer 0 is the embedding: then no state after the first token changes in the third row. Recurrent models
  (Mamba, RWKV) begin their tuple of hidden states with the first block's output.

A pass with padding tells whether what is masked changes anything (MobileBERT reads its neighbours, FNet takes no mask).
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from memlm import huggingface as hf
from memlm.errors import UsageError, refusing

_TOKENS, _PADDED = 12, 8  # of a row, and of these what is left before the padding
_SAME = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}  # relative: what rounding alone can change
UNLIMITED = 1 << 20  # tokens


@dataclass(frozen=True)
class Seen:
    """What a model does, whatever it says it is."""

    causal: bool  # no state depends on a later token
    recalls: bool  # and some depend on earlier ones
    padded: bool  # padding beside a text, under a mask, makes no difference
    layered: bool  # there are as many hidden states as layers and one more, the first of which is the embedding


@torch.inference_mode()
def examine(
    name: str, model: hf.PreTrainedModel, tokenizer: hf.PreTrainedTokenizerBase, layers: int, most: int
) -> Seen:
    """Read a few tokens, of `most` at the most, with a model's body.

    UsageError where it reads no text, or its tokenizer has ids that it lacks.
    """
    if model.main_input_name != "input_ids":
        kind = model.config.model_type
        raise UsageError(f"{name} reads no text: a model of kind {kind} takes {model.main_input_name}.")
    rows = cast(nn.Embedding, model.get_input_embeddings()).weight.shape[0]
    if (highest := max(tokenizer.get_vocab().values(), default=0)) >= rows:
        raise UsageError(
            f"the tokenizer of {name} has ids up to {highest} and its embedding {rows} rows: put the one that "
            "belongs to it in its place."
        )
    special = set(tokenizer.all_special_ids)
    plain = [i for i in range(min(rows, 1000)) if i not in special] or [0]
    tokens, kept = min(_TOKENS, most), min(_PADDED, most)
    row = [plain[(7 * i + 3) % len(plain)] for i in range(tokens + 2)]
    ids_3N = torch.tensor([row[:-2], [*row[:-3], row[-2]], [row[-1], *row[1:-2]]], device=model.device)
    mask_3N = torch.ones_like(ids_3N)
    with refusing(f"{name} cannot read {tokens} tokens of text"):
        out = model(input_ids=ids_3N, attention_mask=mask_3N, output_hidden_states=True)
        last_3ND: Tensor = out.last_hidden_state
        mask_3N[:, kept:] = 0
        padded_3ND = model(input_ids=ids_3N, attention_mask=mask_3N).last_hidden_state
        short_3ND = model(input_ids=ids_3N[:, :kept], attention_mask=mask_3N[:, :kept]).last_hidden_state
    if last_3ND.shape[:2] != ids_3N.shape:
        raise UsageError(f"{name} gives no hidden state for each token: choose another model.")
    same = _SAME.get(last_3ND.dtype, 1e-5)

    def changed(one: Tensor, other: Tensor) -> bool:
        return one.numel() > 0 and bool((one - other).abs().max() > same * last_3ND.abs().max())

    causal = not changed(last_3ND[0, :-1], last_3ND[1, :-1])
    padded = causal or not (padded_3ND[:, :kept] - short_3ND).abs().max() > 10 * same * short_3ND.abs().max()
    states: tuple[Any, ...] = getattr(out, "hidden_states", None) or ()
    layered = len(states) == layers + 1 and all(state.shape[:2] == ids_3N.shape for state in states)
    layered = layered and not changed(states[0][0, 1:], states[0][2, 1:])
    return Seen(causal, changed(last_3ND[0, 1:], last_3ND[2, 1:]), padded, layered)


def most_tokens(model: nn.Module, config: Any, tokenizer: hf.PreTrainedTokenizerBase, name: str) -> int:
    """How long a text can be: the least of what config, tokenizer and tables of learnt positions have room for.

    What is no positive number says nothing (XLNet tells -1). Tables of positions reserve those up to `padding_idx`
    (RoBERTa), or `offset` of them (OPT). UsageError where there is room for special tokens alone.
    """
    told = [getattr(config.get_text_config(), "max_position_embeddings", None), tokenizer.model_max_length]
    for place, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if hasattr(module, "padding_idx") and isinstance(weight, Tensor) and "pos" in place.rpartition(".")[2]:
            padding: Any = module.padding_idx
            told.append(len(weight) - (getattr(module, "offset", 0) if padding is None else padding + 1))
    most = int(min([UNLIMITED, *(limit for limit in told if isinstance(limit, int | float) and limit >= 1)]))
    if most <= (special := tokenizer.num_special_tokens_to_add()):
        raise UsageError(f"{name} reads {most} tokens at most, of which {special} are special: none is left for text.")
    return most
