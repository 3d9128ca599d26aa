"""What is trained beside a language model of others: a copy head, on hidden states that are kept on disk, so that the
model runs once; and, if it is asked for, an adapter that reads what is opened (opened.py).

    text (part train) ─ base, frozen, once ─> DATA/states/<hash>/: tokens, hidden states in fp16, log-probabilities
    states + passages of 4 to `context` before them ─ steps ─> the head (pretrained/copying.py); no weight of the base

A row of a batch is one kept window with passages before it, and `QUERIES` of its tokens are predicted:
    next    most rows: the text before the window; of every eighth step another text, where nothing is to be found
    quote   one: a text that holds the window itself
    facts   two: windows over which facts of random tokens are written (a key of 3, a value of 2, `EVERY` tokens apart),
            each told in a passage of another text, beside as many that are not asked; values are predicted
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from memlm import ui
from memlm.arrays import read_npy
from memlm.data.corpus import Corpus
from memlm.errors import UsageError, WorkError
from memlm.files import atomic_folder, followed, holds_files, sha256_json, write_json, write_sums
from memlm.loading import build_model, find_model, is_ours, load_model, save_model
from memlm.precision import Device, device_of
from memlm.pretrained.copying import Copying, queries_of
from memlm.pretrained.opening import open_pretrained
from memlm.pretrained.shapes import CopyingShape
from memlm.pretrained.transplant import tokenizer_of
from memlm.readers.reader import Queries, logp_of
from memlm.tokens.tokenizer import load_tokenizer, tokens_of
from memlm.train.config import Adapting, OptimConfig
from memlm.train.opened import train_opened
from memlm.train.optim import build_optimizers, learning_rate, set_learning_rate

FORMAT = 1  # of kept states
WINDOW, QUERIES, EVERY, KEY, VALUE = 512, 64, 16, 3, 2
ROWS = {"next": 5, "quote": 1, "facts": 2}  # of a batch
WEIGHTS = {"next": 1.0, "quote": 0.4, "facts": 0.2}


@dataclass(frozen=True)
class States:
    """Kept windows [n, WINDOW]: tokens in our ids, of which the first `plain` are text as it stands, where each begins
    in the text, hidden states before each token [n, WINDOW, W], and the base's log-probability of it.
    """

    text_N: np.ndarray
    ids: np.ndarray
    begins: np.ndarray
    hidden: np.ndarray
    logp: np.ndarray
    plain: int


def adapt(config: Adapting, out: Path) -> dict[str, Any]:
    """Train a head, an adapter or both, and save them with the base's name as a model that `memlm.load` knows.

    Returns:
        A summary: of the head, unless it was there, and in `adapter` of the adapter, if there is one.

    Raises:
        UsageError: no such data or base, too little text, nothing to train, or `out` exists.
        WorkError: the loss is no number.
    """
    out = followed(out)
    if out.is_file() or holds_files(out):
        raise UsageError(f"{out} exists already: name another place or remove it first.")
    corpus, device = Corpus.open(config.data), device_of(cast(Device, config.device))
    model, tokenizer = _begun(config)
    torch.nn.Module.to(model, device)
    text_N = text_of(model, corpus, tokenizer, config)
    summary: dict[str, Any] = {"base": model.shape.base, "data": corpus.hash, "passages": config.context}
    if not model.copies:
        summary |= _train_head(model, kept_states(model, corpus, text_N, config), config)
    curves = {"curve": summary.pop("curve", [])}
    if config.lora:
        summary["adapter"] = train_opened(model, text_N, tokenizer, config, f"{corpus.hash} {model.fingerprint()}")
        curves["adapter_curve"] = summary["adapter"].pop("curve")
    model.eval()
    save_model(model, tokenizer, out)
    write_json(out / "adapt.json", {**summary, **curves})
    return summary


def _begun(config: Adapting) -> tuple[Copying, Any]:
    """The model before training, with the head of a run that has one, and its tokenizer."""
    run, given = Path(config.base), None
    if is_ours(run):
        given = cast(Copying, load_model(run))
        if not getattr(given, "copies", False):
            raise UsageError(f"{run} has no copy head of memlm adapt: name a run that has one, or a model of others.")
        if not config.lora:
            raise UsageError(f"{run} has its copy head: set --lora to train an adapter beside it.")
        tokenizer = load_tokenizer(find_model(run))
    else:
        tokenizer = tokenizer_of(open_pretrained(config.base))
    shape = given.shape if given else CopyingShape(base=config.base)
    shape = replace(shape, lora_rank=config.lora, lora_layers=config.lora_layers)
    model = cast(Copying, build_model(shape, tokenizer.get_vocab_size(), config.seed))
    if given:
        model.reader.load_state_dict(given.reader.state_dict())
        model.config.trained_chunks = given.config.trained_chunks
    return model.requires_grad_(False), tokenizer


def _train_head(model: Copying, states: States, config: Adapting) -> dict[str, Any]:
    """Train the head; what a summary tells of it."""
    began, last = time.perf_counter(), {}
    head = model.reader.train().requires_grad_(True)
    optim = OptimConfig(lr=config.lr, warmup=20, decay_from=0.3, final=0.02)
    optimizers, rng, history = build_optimizers(head, optim), np.random.default_rng(config.seed), []
    with ui.progress(unit="steps") as bar:
        task = bar.add_task(f"{config.base}: copy head", total=config.steps)
        for step in range(config.steps):
            set_learning_rate(optimizers, learning_rate(optim, step, config.steps))
            parts = losses(model, states, config.context, rng, foreign=step % 8 == 7)
            loss = sum(WEIGHTS[name] * part for name, part in parts.items())
            assert isinstance(loss, Tensor)
            if not torch.isfinite(loss):
                raise WorkError(f"the loss left the numbers after {step} steps: lower --lr.")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), optim.clip)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            history.append({name: part.item() for name, part in parts.items()})
            bar.advance(task)
    for name in WEIGHTS:
        told = [row[name] for row in history[-50:] if name in row]
        last[name] = float(np.mean(told)) if told else None
    model.config.trained_chunks = config.context
    head.eval().requires_grad_(False)
    size, seconds = sum(p.numel() for p in head.parameters()), time.perf_counter() - began
    return {"parameters": size, "steps": config.steps, "losses": last, "train_seconds": seconds, "curve": history}


def losses(
    model: Copying, states: States, context: int, rng: np.random.Generator, foreign: bool = False
) -> dict[str, Tensor]:
    """Nats of the predicted tokens of one batch, by kind of row."""
    T, device = model.chunk_tokens, model.device
    K = int(min(context, rng.choice([4, 16, 64, 256, context])))
    told: dict[str, Tensor] = {}
    for kind, rows in ROWS.items():
        if kind == "quote" and K * T < 2 * WINDOW:
            continue
        pool = (states.plain, len(states.ids)) if kind == "facts" else (0, states.plain)
        picked_B = rng.integers(*pool, rows)
        words_BKT = np.stack([_before(states, kind, int(i), K, T, rng, foreign) for i in picked_B])
        place_BQ = np.stack(
            [_asked(kind, words, states.ids[i], rng) for words, i in zip(words_BKT, picked_B, strict=True)]
        )
        ids_BN = torch.from_numpy(states.ids[picked_B].astype(np.int64)).to(device)
        logp_BN = torch.from_numpy(states.logp[picked_B].astype(np.float32)).to(device)
        h_BNW = torch.from_numpy(states.hidden[picked_B].astype(np.float32)).to(device)
        at_BQ = torch.from_numpy(place_BQ).to(device)
        h_BQW = h_BNW.gather(1, at_BQ[..., None].expand(-1, -1, h_BNW.shape[2]))
        with torch.no_grad():
            logp_BQV = model.told(h_BQW).log_softmax(-1)
        queries = queries_of(ids_BN, K, logp_BN)
        n = queries.recent.shape[-1]
        recent_BQn, told_BQn = (
            x.gather(1, at_BQ[..., None].expand(-1, -1, n)) for x in (queries.recent, cast(Tensor, queries.logp))
        )
        queries = Queries(torch.full_like(at_BQ, K), at_BQ, recent_BQn, logp=told_BQn)
        kept = model.reader.keep_words(torch.from_numpy(words_BKT.astype(np.int64)).to(device))
        told[kind] = model.reader.nats(logp_BQV, h_BQW, kept, queries, ids_BN.gather(1, at_BQ)).mean()
    return told


def _before(
    states: States, kind: str, number: int, K: int, T: int, rng: np.random.Generator, foreign: bool
) -> np.ndarray:
    """The words of K passages that stand before a window [K, T]."""
    text, begin = states.text_N, int(states.begins[number])
    if kind == "next" and not foreign:
        return text[begin - K * T : begin].reshape(K, T)
    start = int(rng.integers(0, len(text) - K * T))
    if kind == "quote":
        start = int(np.clip(begin - rng.integers(0, K * T - WINDOW), 0, len(text) - K * T))
    words_KT = text[start : start + K * T].reshape(K, T).copy()
    if kind == "facts":
        asked = states.ids[number].reshape(-1, EVERY)[:, -KEY - VALUE :]
        others = rng.integers(2, states.ids.max(), (K, KEY + VALUE))
        facts = np.concatenate([rng.permutation(asked), others])[:K]
        at = rng.permutation(K)[: len(facts)]
        place = rng.integers(0, T - KEY - VALUE + 1, len(facts))
        words_KT[at[:, None], place[:, None] + np.arange(KEY + VALUE)] = facts
    return words_KT


def _asked(kind: str, words_KT: np.ndarray, ids_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which tokens of a window are predicted [QUERIES]: of facts the values that the passages tell."""
    if kind != "facts":
        return np.sort(rng.choice(WINDOW, QUERIES, replace=False))
    ends = np.arange(EVERY, WINDOW + 1, EVERY)
    rows = np.lib.stride_tricks.sliding_window_view(words_KT, KEY + VALUE, axis=1).reshape(-1, KEY + VALUE)
    known = set(map(tuple, rows.tolist()))
    ends = np.array([end for end in ends if tuple(ids_N[end - KEY - VALUE : end].tolist()) in known])
    places = np.concatenate([ends - i for i in range(VALUE, 0, -1)])
    return np.sort(rng.choice(places, QUERIES, replace=len(places) < QUERIES))


@torch.inference_mode()
def kept_states(model: Copying, corpus: Corpus, text_N: np.ndarray, config: Adapting) -> States:
    """The base's hidden states of windows of the text; read from disk where they were kept before."""
    most = config.context * model.chunk_tokens
    told = [FORMAT, model.config.base_fingerprint, corpus.hash, config.windows, config.context, config.seed]
    folder = config.data / "states" / sha256_json(told)[:32]
    plain = max(1, config.windows - config.windows // 4)
    if not folder.exists():
        rng = np.random.default_rng(config.seed)
        begins = np.sort(rng.integers(most, len(text_N) - WINDOW, config.windows))
        rng.shuffle(begins)
        ids = text_N[begins[:, None] + np.arange(WINDOW)]
        asking = ids[plain:].reshape(-1, WINDOW // EVERY, EVERY)
        asking[..., -KEY - VALUE :] = rng.integers(2, model.base.vocab_size, (*asking.shape[:2], KEY + VALUE))
        ids[plain:] = asking.reshape(-1, WINDOW)
        hidden, logp = [], []
        with ui.progress(unit="windows") as bar:
            task = bar.add_task(f"{config.base}: hidden states, once", total=len(ids))
            for row in ids:
                ids_1N = torch.from_numpy(row.astype(np.int64))[None].to(model.device)
                h_1NW = model.states(model.begun(ids_1N)[:, :-1])[0]
                hidden.append(h_1NW[0].half().cpu().numpy())
                logp.append(logp_of(model.told(h_1NW), ids_1N)[0].half().cpu().numpy())
                bar.advance(task)
        arrays = {"ids": ids, "begins": begins, "hidden": np.stack(hidden), "logp": np.stack(logp)}
        with atomic_folder(folder, replace=True) as scratch:
            for name, array in arrays.items():
                np.save(scratch / f"{name}.npy", array)
            write_sums(scratch)
    found = [read_npy(folder / f"{name}.npy", mapped=True) for name in ("ids", "begins", "hidden", "logp")]
    return States(text_N, *found, plain=plain)


def text_of(model: Copying, corpus: Corpus, tokenizer: Any, config: Adapting) -> np.ndarray:
    """The text of a corpus' part train in the model's tokens, int32 [N].

    Raises:
        UsageError: there is too little text.
    """
    stream = corpus.train
    spans = zip(stream.documents[:-1], stream.documents[1:] - 1, strict=True)
    texts = (corpus.tokenizer.decode(stream.tokens[a:b].tolist(), skip_special_tokens=False) for a, b in spans)
    text_N = tokens_of(tokenizer, texts).astype(np.int32)
    if len(text_N) < config.context * model.chunk_tokens + 2 * WINDOW:
        raise UsageError(
            f"{config.data} has {len(text_N):,} tokens of {model.shape.base} in its part train, too few for contexts "
            f"of {config.context} passages: name a longer text, or set --context."
        )
    return text_N
