"""The training loop: everything that happens to a model between a config and a run folder.

RUN/config.json          the resolved config: `memlm train --config RUN/config.json --out NEW` runs it again
RUN/environment.json     machine, versions, commit, data hash, fingerprint of the model that it started from
RUN/metrics.jsonl        loss, rate, speed, held-out figures
RUN/checkpoints/         the newest few, each whole or not there
RUN/model/               the trained model, the Hugging Face way
RUN/summary.json         the last held-out figures; its presence says that the run has ended
"""

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from memlm import ui
from memlm.bank.confidence import CHUNKS, calibrate
from memlm.cpu import tune_cpu
from memlm.data.corpus import Corpus
from memlm.data.sampler import ChunkSampler
from memlm.errors import UsageError, WorkError
from memlm.files import holds_files, read_json, sha256_file, telling_version, write_json, write_last
from memlm.legacy import modern_config
from memlm.loading import build_model, find_model, save_model
from memlm.nn.compiled import WORTHWHILE, compile_parts
from memlm.objectives.batch import Batch
from memlm.objectives.names import parse
from memlm.objectives.registry import build_objective
from memlm.precision import computing
from memlm.provenance import environment
from memlm.records import from_dict, to_dict
from memlm.train.batches import Batches, Inputs
from memlm.train.checkpoint import list_checkpoints, load_checkpoint, load_moments, save_checkpoint
from memlm.train.config import TrainConfig
from memlm.train.held_out import evaluate
from memlm.train.memories import stream_memories
from memlm.train.optim import build_optimizers, learning_rate, optimizer_tensors, set_learning_rate
from memlm.train.parallel import Spread, gathered
from memlm.train.ranks import Ranks, start
from memlm.train.start import ORIGIN, find_start, freeze, refuse_changed, start_from
from memlm.train.tracking import Display, Metrics, Trackers, flattened

_LOGITS = 2**26  # numbers of logits at a time while evaluating: what bounds the memory of large vocabularies
LOG_EVERY = 10  # steps between looks at the loss: each look waits for the device


def train(config: TrainConfig, out: Path, *, resume: bool = False) -> dict[str, Any]:
    """Train what `config` describes into the folder `out`; returns the run's summary.

    Args:
        config: the run.
        out: its folder.
        resume: go on from the newest checkpoint if `out` was begun with this very config, to the same weights as
            an uninterrupted run; a run that has ended is returned as it is.

    Raises:
        UsageError: `out` holds files and `resume` is false; it was begun with another config, data or model to start
            from; another process trains there; the data, the model to start from or the parts to freeze do not fit.
        WorkError: the loss is no number or has diverged; a damaged checkpoint; a full disk.
    """
    out = Path(out)
    accelerator, ranks = start(config, out)
    with ranks.watched():
        ranks.agreed(lambda: _done(config, out, resume))  # refuses before anything is made
        with ranks.held(out):  # of a run that has ended, too: a kill may have left something
            done = ranks.agreed(lambda: _done(config, out, resume))  # what another process did meanwhile is seen
            return done or _train(config, out, accelerator, ranks)


def _done(config: TrainConfig, out: Path, resume: bool) -> dict[str, Any] | None:
    """The summary of a run that has ended; refuses a folder that is not this run's."""
    if not holds_files(out):
        return None
    if not resume:
        raise UsageError(f"{out} exists already: go on with it by --resume {out}, or name another place.")
    if (begun := load_config(out)) != config:
        differing = [name for name in to_dict(config) if getattr(begun, name) != getattr(config, name)]
        raise UsageError(f"{out} was begun with another config (see {', '.join(differing)}): name another place.")
    refuse_changed(out, config)
    return read_json(out / "summary.json") if (out / "summary.json").exists() else None


def _train(config: TrainConfig, out: Path, accelerator: Accelerator, ranks: Ranks) -> dict[str, Any]:
    """All of `train` but what it refuses beforehand."""
    tune_cpu()
    corpus = Corpus.open(config.data)
    tokenizer = corpus.tokenizer  # now: DATA may be prepared anew while this run keeps what it has open
    T = config.model.chunk_tokens
    objective = build_objective(config.objective, corpus.vocab_size, config.context, T)
    window = objective.window(config.model.window_tokens)
    # Their chunks are those of a grid over the stream, whether memories are read from disk or formed.
    align = T if config.model.on_grid else 1
    sampler = ChunkSampler(corpus.train.tokens, window, config.batch * config.accumulate, config.seed, align=align)
    held_out = corpus.windows("tune", window, limit=4 * config.eval_chunks)

    model = build_model(config.model, corpus.vocab_size, config.seed)
    checkpoints = list_checkpoints(out / "checkpoints")
    origin: dict[str, Any] = {"data": corpus.hash}
    if checkpoints:  # which hold all weights: the model that it started from may be gone
        origin |= {key: told for key, told in read_json(out / "environment.json").items() if key in ORIGIN}
    elif config.start:
        folder = find_start(config.start, out)
        fresh = {"fresh_embedding": config.fresh_embedding, "shrink_perturb": config.shrink_perturb}
        origin["start_sha256"] = sha256_file(find_model(folder) / "model.safetensors")
        origin["start"] = start_from(model, folder, tokenizer, **fresh)
    freeze(model, config.frozen, fresh_embedding=config.fresh_embedding)
    torch.manual_seed(config.seed)
    long = config.steps * config.accumulate >= WORTHWHILE
    if config.compile == "on" or (config.compile == "auto" and accelerator.device.type == "cuda" and long):
        compile_parts(model)
    step, seconds, tokens_seen = 0, 0.0, 0
    if checkpoints:
        with ranks.together():
            state, weights = load_checkpoint(checkpoints[-1], ranks)
        step, seconds, tokens_seen = state["step"], state["train_seconds"], state["tokens"]
        model.load_state_dict(weights)
        ui.say(f"{out.name}: goes on from step {step}")
    model.to(accelerator.device)
    with computing(accelerator.device, config.precision):
        some = objective(torch.from_numpy(sampler.batch_at(0)), T)
        memories = stream_memories(config, model, corpus, window, some, ranks)
    spread = Spread(model, config.parallel, ranks)
    optimizers = build_optimizers(model, config.optim)
    if checkpoints:
        with ranks.together():
            load_moments(checkpoints[-1], optimizers)

    shares = ranks.world * config.accumulate
    made: dict[int, Batch] = {}  # of the step under way, of which each process and each micro-batch has its rows

    def inputs(number: int) -> Inputs:
        step, micro = divmod(number, config.accumulate)
        if step not in made:
            made.clear()
            made[step] = objective(torch.from_numpy(sampler.batch_at(step)), T)
        batch = made[step].share(ranks.rank * config.accumulate + micro, shares)
        known = {"own_memories": memories.of(sampler.starts_at(step), batch)} if memories else {}
        return batch.inputs() | known | {"even": batch.even}

    batches = Batches(inputs, accelerator.device, config.steps * config.accumulate)

    metrics = None
    with ranks.together():
        if ranks.first:
            write_json(out / "config.json", to_dict(config))  # first: what has a config can be resumed
            made_by = {**environment(accelerator.device.type), "processes": ranks.world}
            write_json(out / "environment.json", made_by | origin)
            metrics = Metrics(out / "metrics.jsonl", step)
    trackers = Trackers(accelerator, to_dict(config), out, resumed=step > 0)
    display = Display(out.name, config.steps, step)
    row: dict[str, Any] = {}
    late = config.max_seconds is not None and seconds >= config.max_seconds
    try:
        while step < config.steps and not late:
            started = time.perf_counter()

            # ---- one step -------------------------------------------------------------------------------------
            set_learning_rate(optimizers, learning_rate(config.optim, step, config.steps))
            total = torch.zeros((), device=accelerator.device)
            for micro in range(config.accumulate):
                with computing(accelerator.device, config.precision):
                    loss = spread(batches[step * config.accumulate + micro], last=micro + 1 == config.accumulate)
                (loss * ranks.world).backward()
                total += loss.detach()
            if config.optim.clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            step += 1
            tokens_seen += (window - config.context * T) * config.batch * config.accumulate
            last = step == config.steps
            # ---------------------------------------------------------------------------------------------------

            logged, evaluated, kept = (step % n == 0 for n in (LOG_EVERY, config.eval_every, config.checkpoint_every))
            if (most := config.max_seconds) is not None:
                late = ranks.all(seconds + time.perf_counter() - started >= most)[0]  # by the clock of the first
            if logged or evaluated or kept or last or late:
                ranks.sum(total)
                _check(total.item(), corpus.vocab_size, step, config, out)
            seconds += time.perf_counter() - started
            if logged:
                display.step(step, total.item(), tokens_seen / seconds)
                rate = optimizers[0].param_groups[0]["lr"]
                trackers.log(step, {"train/loss": total.item(), "train/learning_rate": rate})
            if evaluated or last or late:
                chunks = held_out if last or late else held_out[:: max(1, len(held_out) // config.eval_chunks)]
                row = {
                    "step": step,
                    "tokens": tokens_seen,
                    "train_seconds": round(seconds, 3),
                    "tokens_per_second": round(tokens_seen / seconds, 1),
                    "loss": total.item(),
                    "learning_rate": optimizers[0].param_groups[0]["lr"],
                    **_held_out(model, config, corpus.vocab_size, chunks, accelerator.device, ranks),
                    "chunks": len(chunks),
                }
                with ranks.together():
                    if metrics:
                        metrics.write(row)
                        display.evaluation(step, row)
                trackers.log(step, flattened({k: v for k, v in row.items() if k != "step"}))
            if kept or last or late:
                state = {"train_seconds": seconds, "tokens": tokens_seen, "last": row}
                moments = optimizer_tensors(optimizers)
                save_checkpoint(out / "checkpoints", step, model.state_dict(), moments, state, config.keep, ranks)
    except BaseException:
        trackers.finish()
        raise
    finally:
        batches.close()
        display.close()
    weights = gathered(model, ranks)

    def end() -> dict[str, Any]:
        last = row or read_json(list_checkpoints(out / "checkpoints")[-1] / "state.json")["last"]
        kept = model
        if weights is not None:
            kept = build_model(config.model, corpus.vocab_size, config.seed)
            kept.load_state_dict(weights)
        kept.config.trained_chunks = config.context + config.model.window_tokens // T
        if config.model.calibrated:
            with computing(accelerator.device):
                kept.config.confidence = calibrate(kept.eval(), corpus.chunks("tune", T, limit=CHUNKS)[0])
        save_model(kept, tokenizer, out / "model")
        write_last(out / "summary.json", last, ("config.json", "environment.json", "metrics.jsonl"))
        trackers.finish(out / "config.json", out / "model")
        return last

    return ranks.agreed(end)


def load_config(run: Path) -> TrainConfig:
    """The resolved config of a run folder.

    Raises:
        UsageError: `run` holds none, or one that this version does not understand.
    """
    with telling_version(Path(run)):
        return from_dict(TrainConfig, modern_config(read_json(Path(run) / "config.json"), "config"), "config")


def _held_out(
    model: torch.nn.Module,
    config: TrainConfig,
    vocab_size: int,
    windows_NW: np.ndarray,
    device: torch.device,
    ranks: Ranks,
) -> dict[str, Any]:
    """Held-out figures: of the objective, or of the first of its parts, and then of every part in `parts`."""
    scores = {}
    for name, *_ in parse(config.objective):
        objective = build_objective(name, vocab_size, config.context, config.model.chunk_tokens)
        own = windows_NW[:, : objective.window(config.model.window_tokens)]
        rows = max(1, min(256, _LOGITS // (own.shape[1] * vocab_size)))
        with computing(device, config.precision):
            T = config.model.chunk_tokens
            scores[name] = asdict(evaluate(model, objective, own, T, device, rows=rows, ranks=ranks))
    first = next(iter(scores.values()))
    return first if len(scores) == 1 else {**first, "parts": scores}


def _check(loss: float, vocab_size: int, step: int, config: TrainConfig, out: Path) -> None:
    """Stop a run that has left the numbers, or is far worse than uniform guessing after its warm-up."""
    guessing = math.log(vocab_size) * sum(part.weight for part in parse(config.objective))
    diverged = step > config.optim.warmup and loss > 2 * guessing
    if math.isfinite(loss) and not diverged:
        return
    good = list_checkpoints(out / "checkpoints")
    where = f"the last good checkpoint is {good[-1]}" if good else "there is no checkpoint yet"
    what = "has diverged" if math.isfinite(loss) else "is no number any more"
    raise WorkError(f"the loss {what} ({loss:.3g} at step {step}); {where}: lower --optim.lr, or lengthen its warm-up.")
