"""Tokens a second into memories, for the encoder of each preset, untrained (a trained one is as fast); as the floor the
rate at which this machine multiplies two 2048 x 2048 fp32 matrices, in the same turn.
"""

from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from memlm.bench.form import Options, Report
from memlm.bench.timing import PRODUCT_FLOPS, for_seconds, matrix_product, pair_ratio
from memlm.cpu import tune_cpu
from memlm.loading import build_model
from memlm.models.model import TextMemory
from memlm.presets import preset

MODELS = ("slots", "mixer", "mixer-heads", "transformer", "causal-mixer", "causal-transformer")
BATCH = 256
FLOOR = "matrix product"


def run(options: Options, *, models: Sequence[str] = MODELS, batch: int = BATCH) -> Report:
    """Encode one batch of held-out chunks with every model in turn, and multiply two matrices in the same turn."""
    tune_cpu()  # as in training
    corpus, device = options.corpus(), options.device
    built = {name: build_model(preset(name).model, corpus.vocab_size, 0).eval() for name in models}
    ids, calls = {}, {}
    for name, model in built.items():
        torch.nn.Module.to(model, device)
        ids[name] = torch.from_numpy(corpus.chunks("test", model.chunk_tokens, batch).tokens).to(device)
        calls[name] = _encoding(model, ids[name])
    times = for_seconds({**calls, FLOOR: matrix_product(device)}, options.seconds or 10.0)

    report = Report(
        name="encode",
        columns=(
            *("encoder", "tokens/s (median)", "parameters, decoder included", "floating-point operations a token"),
            *("GFLOP/s", "share of the floor, %"),
        ),
        setting=(
            f"presets as they are (64 tokens, 256 numbers), batch {min(batch, *map(len, ids.values()))} of held-out "
            f"chunks, fp32, no gradients, data {corpus.hash[:12]}; one batch a call, {len(times[FLOOR])} rounds in turn"
        ),
        device=device.type,
        notes=[
            "Operations are those of matrix products and convolutions, counted as they are executed: the masked half "
            "of a triangle counts, attention counts as dense (its kernel may skip the masked half), additions do not."
        ],
    )
    first, counted = models[0], {}
    for name, model in built.items():
        tokens, flops = ids[name].numel(), encoding_flops(model, ids[name])
        counted[name] = {"tokens": tokens, "flops": flops}
        rate, parameters = tokens / median(times[name]), sum(p.numel() for p in model.parameters())
        share = pair_ratio(times[FLOOR], times[name]) * flops / PRODUCT_FLOPS
        report.rows.append((name, rate, parameters, flops / tokens, rate * flops / tokens / 1e9, 100 * share))
        if name != first:
            faster = pair_ratio(times[name], times[first]) * ids[first].numel() / tokens
            report.ratios[f"tokens a second, {first} / {name}"] = faster
    floor = PRODUCT_FLOPS / median(times[FLOOR]) / 1e9
    report.rows.append((FLOOR, "-", "-", "-", floor, 100.0))
    report.raw = {"seconds": times, "counted": counted, "floor_gflops": floor}
    return report


def encoding_flops(model: TextMemory, ids_BT: Tensor) -> int:
    """Operations of one `encode`; attention is counted in its plain form, as the counter knows no CPU kernel of it."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model.encode(ids_BT)
    return counter.get_total_flops()


def _encoding(model: TextMemory, ids_BT: Tensor) -> Callable[[], Tensor]:
    return torch.inference_mode()(lambda: model.encode(ids_BT))
