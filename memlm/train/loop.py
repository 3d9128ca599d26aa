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
from memlm.cpu import tune_cpu
from memlm.data.corpus import Corpus
from memlm.data.sampler import ChunkSampler
from memlm.errors import UsageError, WorkError
from memlm.files import holds_files, read_json, sha256_file, telling_version, write_json, write_last
from memlm.legacy import modern_config
from memlm.loading import build_model, find_model, save_model
from memlm.locks import held
from memlm.nn.compiled import WORTHWHILE, compile_parts
from memlm.objectives.names import parse
from memlm.objectives.registry import build_objective
from memlm.precision import computing, device_of
from memlm.provenance import environment
from memlm.records import from_dict, to_dict
from memlm.train.batches import Batches, Inputs
from memlm.train.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from memlm.train.config import TrainConfig
from memlm.train.held_out import evaluate
from memlm.train.memories import stream_memories
from memlm.train.optim import (
    build_optimizers,
    learning_rate,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)
from memlm.train.start import ORIGIN, find_start, freeze, refuse_changed, start_from
from memlm.train.tracking import Display, Metrics, Trackers, flattened, refuse_trackers

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
    _done(config, out, resume)  # refuses before anything is made
    with held(out):  # of a run that has ended, too: a kill may have left something
        return _done(config, out, resume) or _train(config, out)  # what another process did meanwhile is seen


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


def _train(config: TrainConfig, out: Path) -> dict[str, Any]:
    """All of `train` but what it refuses beforehand."""
    tune_cpu()
    accelerator = build_accelerator(config, out)
    corpus = Corpus.open(config.data)
    tokenizer = corpus.tokenizer  # now: DATA may be prepared anew while this run keeps what it has open
    T = config.model.chunk_tokens
    objective = build_objective(config.objective, corpus.vocab_size, config.context, T)
    window = objective.window(config.model.window_tokens)
    rank, world = accelerator.process_index, accelerator.num_processes
    # Their chunks are those of a grid over the stream, whether memories are read from disk or formed.
    align = T if config.model.on_grid else 1
    share = {"rank": rank, "world": world}
    sampler = ChunkSampler(corpus.train.tokens, window, config.batch * world, config.seed, **share, align=align)
    held_out = corpus.chunks("tune", window, limit=4 * config.eval_chunks)[0]
    if not len(held_out):
        raise UsageError(f"no held-out document of {config.data} has {window} tokens: choose shorter chunks.")

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
    optimizers = build_optimizers(model, config.optim)
    prepared = accelerator.prepare(model, *optimizers)
    wrapped, stepped = prepared[0], prepared[1:]

    step, seconds, tokens_seen = 0, 0.0, 0
    if checkpoints:
        state, weights, moments = load_checkpoint(checkpoints[-1])
        step, seconds, tokens_seen = state["step"], state["train_seconds"], state["tokens"]
        model.load_state_dict(weights)
        load_optimizer_tensors(optimizers, moments)
        ui.say(f"{out.name}: goes on from step {step}")

    with accelerator.main_process_first(), computing(accelerator.device, config.precision):
        some = objective(torch.from_numpy(sampler.batch_at(0)), T)
        memories = stream_memories(config, model, corpus, window, some, world)

    def inputs(number: int) -> Inputs:
        batch = objective(torch.from_numpy(sampler.batch_at(number)), T)
        known = {"own_memories": memories.of(sampler.starts_at(number), batch)} if memories else {}
        return batch.inputs() | known

    batches = Batches(inputs, accelerator.device, config.steps * config.accumulate)

    metrics = None
    if accelerator.is_main_process:
        write_json(out / "config.json", to_dict(config))  # first: what has a config can be resumed
        write_json(out / "environment.json", {**environment(accelerator.device.type), **origin})
        metrics = Metrics(out / "metrics.jsonl", step)
    trackers = Trackers(accelerator, to_dict(config), out, resumed=step > 0)
    display = Display(out.name, config.steps, step)
    row: dict[str, Any] = {}
    loss = torch.tensor(math.nan)
    wrapped.train()
    try:
        while step < config.steps and (config.max_seconds is None or seconds < config.max_seconds):
            started = time.perf_counter()

            # ---- one step -------------------------------------------------------------------------------------
            set_learning_rate(optimizers, learning_rate(config.optim, step, config.steps))
            for micro in range(config.accumulate):
                with accelerator.accumulate(wrapped):
                    with computing(accelerator.device, config.precision):
                        loss = wrapped(**batches[step * config.accumulate + micro]).loss
                    accelerator.backward(loss)
                    if accelerator.sync_gradients and config.optim.clip:
                        accelerator.clip_grad_norm_(wrapped.parameters(), config.optim.clip)
                    for optimizer in stepped:
                        optimizer.step()
                        optimizer.zero_grad()
            step += 1
            tokens_seen += (window - config.context * T) * config.batch * world * config.accumulate
            last = step == config.steps
            # ---------------------------------------------------------------------------------------------------

            if step % LOG_EVERY == 0 or last or step % config.eval_every == 0 or step % config.checkpoint_every == 0:
                _check(loss.item(), corpus.vocab_size, step, config, out)
            seconds += time.perf_counter() - started
            last = last or (config.max_seconds is not None and seconds >= config.max_seconds)
            if step % LOG_EVERY == 0:
                display.step(step, loss.item(), tokens_seen / seconds)
                rate = optimizers[0].param_groups[0]["lr"]
                trackers.log(step, {"train/loss": loss.item(), "train/learning_rate": rate})
            if step % config.eval_every == 0 or last:
                chunks = held_out if last else held_out[:: max(1, len(held_out) // config.eval_chunks)]
                row = {
                    "step": step,
                    "tokens": tokens_seen,
                    "train_seconds": round(seconds, 3),
                    "tokens_per_second": round(tokens_seen / seconds, 1),
                    "loss": loss.item(),
                    "learning_rate": optimizers[0].param_groups[0]["lr"],
                    **_held_out(wrapped, config, corpus.vocab_size, chunks, accelerator.device),
                    "chunks": len(chunks),
                }
                if metrics:
                    metrics.write(row)
                    display.evaluation(step, row)
                trackers.log(step, flattened({k: v for k, v in row.items() if k != "step"}))
            if accelerator.is_main_process and (step % config.checkpoint_every == 0 or last):
                state = {"train_seconds": seconds, "tokens": tokens_seen, "last": row}
                moments = optimizer_tensors(optimizers)
                save_checkpoint(out / "checkpoints", step, model.state_dict(), moments, state, config.keep)
    except BaseException:
        trackers.finish()
        raise
    finally:
        batches.close()
        display.close()
    if not row:  # resumed from a checkpoint that was the last one
        row = read_json(list_checkpoints(out / "checkpoints")[-1] / "state.json")["last"]
    if accelerator.is_main_process:
        model.config.trained_chunks = config.context + config.model.window_tokens // T
        save_model(model, tokenizer, out / "model")
        write_last(out / "summary.json", row, ("config.json", "environment.json", "metrics.jsonl"))
        trackers.finish(out / "config.json", out / "model")
    accelerator.wait_for_everyone()
    return row


def load_config(run: Path) -> TrainConfig:
    """The resolved config of a run folder.

    Raises:
        UsageError: `run` holds none, or one that this version does not understand.
    """
    with telling_version(Path(run)):
        return from_dict(TrainConfig, modern_config(read_json(Path(run) / "config.json"), "config"), "config")


def build_accelerator(config: TrainConfig, out: Path) -> Accelerator:
    """The device and the processes of a run.

    Raises:
        UsageError: no such device here, or a tracker that is not installed.
    """
    cpu = device_of(config.device).type == "cpu"
    refuse_trackers(config.trackers)
    return Accelerator(
        cpu=cpu,
        mixed_precision="no",  # the policy is ours, one for all commands: memlm/precision.py
        gradient_accumulation_steps=config.accumulate,
        log_with=list(config.trackers) or None,
        project_dir=str(out),
    )


def _held_out(
    model: torch.nn.Module, config: TrainConfig, vocab_size: int, windows_NW: np.ndarray, device: torch.device
) -> dict[str, Any]:
    """Held-out figures: of the objective, or of the first of its parts, and then of every part in `parts`."""
    scores = {}
    for name, *_ in parse(config.objective):
        objective = build_objective(name, vocab_size, config.context, config.model.chunk_tokens)
        own = windows_NW[:, : objective.window(config.model.window_tokens)]
        rows = max(1, min(256, _LOGITS // (own.shape[1] * vocab_size)))
        with computing(device, config.precision):
            scores[name] = asdict(evaluate(model, objective, own, config.model.chunk_tokens, device, rows=rows))
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
