"""How fast each kind of encoder turns text into memories, and how far that is from the machine's matrix rate."""

from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from memlm.bench.corpus import open_corpus
from memlm.bench.form import Options, Report
from memlm.bench.timing import PRODUCT_FLOPS, in_turn, matrix_product, pair_ratio, rounds_for
from memlm.cpu import tune_cpu
from memlm.loading import build_model
from memlm.models.model import TextMemory
from memlm.presets import preset

MODELS = ("slots", "mixer", "mixer-heads", "transformer", "causal-mixer", "causal-transformer")
BATCH = 256
FLOOR = "matrix product"


def run(options: Options, *, models: Sequence[str] = MODELS, batch: int = BATCH) -> Report:
    """Encode one batch of held-out chunks with every model in turn, and multiply two matrices in the same turn."""
    corpus = open_corpus(options)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        tune_cpu()  # as in training
    built = {name: build_model(preset(name).model, corpus.vocab_size, 0).eval() for name in models}
    for model in built.values():
        model.to(device)  # pyright: ignore[reportArgumentType]
    ids = {
        name: torch.from_numpy(corpus.chunks(corpus.valid, model.chunk_tokens, batch).tokens).to(device)
        for name, model in built.items()
    }
    calls = {name: _encoding(model, ids[name]) for name, model in built.items()}
    calls[FLOOR] = matrix_product(device)
    times = in_turn(calls, rounds=rounds_for(calls, options.seconds or 10.0))

    floor = PRODUCT_FLOPS / median(times[FLOOR]) / 1e9
    rows, raw = [], {}
    for name, model in built.items():
        tokens, flops = ids[name].numel(), encoding_flops(model, ids[name])
        rate = tokens / median(times[name])
        share = pair_ratio([t / PRODUCT_FLOPS for t in times[FLOOR]], [t / flops for t in times[name]])
        parameters = sum(p.numel() for p in model.parameters())
        rows.append((name, rate, parameters, flops / tokens, rate * flops / tokens / 1e9, 100 * share))
        raw[name] = {"tokens": tokens, "flops": flops}
    rows.append((FLOOR, "-", "-", "-", floor, 100.0))
    first = models[0]
    return Report(
        name="encode",
        claim=(
            "Tokens a second into memories, for the encoder of each preset, untrained (a trained one is as fast); as "
            "the floor the rate at which this machine multiplies two 2048 x 2048 fp32 matrices, in the same turn."
        ),
        columns=(
            "encoder",
            "tokens/s (median)",
            "parameters, decoder included",
            "floating-point operations a token",
            "GFLOP/s",
            "share of the floor, %",
        ),
        rows=rows,
        ratios={
            f"tokens a second, {first} / {name}": pair_ratio(
                [t / ids[name].numel() for t in times[name]], [t / ids[first].numel() for t in times[first]]
            )
            for name in models[1:]
        },
        setting=(
            f"presets as they are (64 tokens, 256 numbers), batch {min(batch, *map(len, ids.values()))} of held-out "
            f"chunks, fp32, no gradients, data {corpus.hash[:12]}; one batch a call, {len(times[FLOOR])} rounds in turn"
        ),
        device=device.type,
        notes=[
            "Operations are those of matrix products and convolutions, counted as they are executed: the masked half "
            "of a triangle counts, attention counts as dense (its kernel may skip the masked half), additions do not."
        ],
        raw={"seconds": times, "counted": raw, "floor_gflops": floor},
    )


def encoding_flops(model: TextMemory, ids_BT: Tensor) -> int:
    """Operations of one `encode`; attention is counted in its plain form, as the counter knows no CPU kernel of it."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model.encode(ids_BT)
    return counter.get_total_flops()


def _encoding(model: TextMemory, ids_BT: Tensor) -> Callable[[], None]:
    @torch.inference_mode()
    def call() -> None:
        model.encode(ids_BT)
        if ids_BT.is_cuda:
            torch.cuda.synchronize()

    return call
