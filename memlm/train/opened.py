"""Gated LoRA for a language model of others: it learns to use words that are opened before a text, or to let them be.

    text (part train) ─ keys ─> the best passages of what stands before ─ opened ─> upper layers + LoRA ─> next tokens

An example is opened words, a text after them, and the tokens of it that are predicted:
    next     64 tokens of a book; of every fourth the passages are of another place, where nothing is to be found
    told     a number that a sentence among real text gives a name, in that sentence's own words ...
    asked    ... and in other words; no sentence, question or name is one of the benchmarks' (bench/longtext.py)
    quote    a passage's next 16 tokens, after its first 8 to 40

Each step draws from its own seed, so that a call that was stopped goes on from its last checkpoint exactly as if it
had not been (DATA/states/<hash>-lora). Gradients end below the first layer with an adapter. LoRA: Hu et al. 2021; gates
that begin at 0: Flamingo (arXiv 2204.14198).
"""

import shutil
import time
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from memlm import ui
from memlm.errors import WorkError
from memlm.files import sha256_json
from memlm.pretrained.adapter import is_adapter
from memlm.pretrained.copying import Copying, in_passages, opened_words
from memlm.tokens.tokenizer import tokens_of
from memlm.train.checkpoint import list_checkpoints, load_checkpoint, load_moments, save_checkpoint
from memlm.train.config import Adapting, OptimConfig
from memlm.train.optim import build_optimizers, learning_rate, optimizer_tensors, set_learning_rate

PREDICTED, QUOTED, FOREIGN, KEEP = 64, 16, 4, 20
WEIGHTS = {"next": 1.0, "told": 0.5, "asked": 0.5, "quote": 0.3}
SENTENCES = (  # told, and asked in the same words
    (" The key of {} was {}.", "\n\nThe key of {} was"),
    (" {} lives at number {}.", "\n\n{} lives at number"),
    (" They gave {} the number {}.", "\n\nThey gave {} the number"),
    (" On the door of {} stood {}.", "\n\nOn the door of {} stood"),
)
QUESTIONS = (
    "\n\nQ: What is the number of {}?\nA: It is",
    "\n\nWhat number has {}? It is number",
    "\n\nTell me the number that goes with {}.\n\nThe number of {} is",
)
SOUNDS = (
    "an",
    "bo",
    "cre",
    "dun",
    "el",
    "fri",
    "gan",
    "hol",
    "is",
    "jur",
    "ken",
    "lu",
    "mo",
    "nor",
    "pel",
    "ri",
    "sab",
    "tum",
)


class Example(NamedTuple):
    """Opened words, a text after them, and how many of its last tokens are predicted."""

    before_P: Tensor
    text_N: Tensor
    predicted: int


def train_opened(
    model: Copying, text_N: np.ndarray, tokenizer: Any, config: Adapting, source: str = ""
) -> dict[str, Any]:
    """Train the adapter and its gates on examples of a text in our ids; `source` tells text and model apart.

    Returns:
        A summary, with the curve of its losses.

    Raises:
        WorkError: the loss is no number, or a checkpoint is damaged.
    """
    trained = nn.ParameterList([model.gate, *(p for name, p in model.lm.named_parameters() if is_adapter(name))])
    trained.requires_grad_(True)
    optim = OptimConfig(lr=config.lora_lr, warmup=10, decay_from=1.0)
    optimizers, history, began = build_optimizers(trained, optim), [], time.perf_counter()
    settings = [source, config.context, config.seed, config.lora_steps, config.lora_lr]
    kept = config.data / "states" / f"{sha256_json(settings)[:32]}-lora"
    if checkpoints := list_checkpoints(kept):
        state, tensors = load_checkpoint(checkpoints[-1])
        history = state["history"]
        with torch.no_grad():
            for name, tensor in _named(trained).items():
                tensor.copy_(tensors[name])
        load_moments(checkpoints[-1], optimizers)
    with ui.progress(unit="steps") as bar:
        task = bar.add_task(f"{config.base}: adapter", total=config.lora_steps, completed=len(history))
        for step in range(len(history), config.lora_steps):
            set_learning_rate(optimizers, learning_rate(optim, step, config.lora_steps))
            rng, told = np.random.default_rng([config.seed, step]), {}
            for kind, made in examples(model, text_N, tokenizer, config.context, rng).items():
                nats = nats_of(model, made)
                (WEIGHTS[kind] * nats).backward()
                told[kind] = nats.item()
            if not all(map(np.isfinite, told.values())):
                raise WorkError(f"the loss left the numbers after {step} steps: lower --lora-lr.")
            nn.utils.clip_grad_norm_(trained.parameters(), optim.clip)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            history.append(told)
            bar.advance(task)
            if len(history) % KEEP == 0 and len(history) < config.lora_steps:
                moments, state = optimizer_tensors(optimizers), {"history": history}
                save_checkpoint(kept, len(history), _named(trained), moments, state, 1)
    shutil.rmtree(kept, ignore_errors=True)
    trained.requires_grad_(False)
    last = {kind: float(np.mean([row[kind] for row in history[-30:]])) for kind in WEIGHTS}
    size = sum(p.numel() for p in trained.parameters())
    gates = dict(zip(("opened", "text"), model.gates().tolist(), strict=True))
    seconds = time.perf_counter() - began
    told = {"parameters": size, "steps": config.lora_steps, "losses": last, "gates": gates, "train_seconds": seconds}
    return {**told, "curve": history}


def _named(trained: nn.ParameterList) -> dict[str, Tensor]:
    """As a checkpoint calls them."""
    return {f"trained.{number}": tensor for number, tensor in enumerate(trained)}


def nats_of(model: Copying, made: list[Example]) -> Tensor:
    """-log p of the predicted tokens of examples, by the language model alone; a mean over all of them."""
    rows = [torch.cat([one.before_P, one.text_N]).to(model.device) for one in made]
    read_BP = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    opened_B = torch.tensor([len(one.before_P) for one in made])
    h_BPW = model.states(model.begun(read_BP)[:, :-1], None, opened_B)[0]  # padding is at the right: nothing sees it
    last = [slice(len(row) - one.predicted, len(row)) for row, one in zip(rows, made, strict=True)]
    h_QW = torch.cat([h_PW[q] for h_PW, q in zip(h_BPW, last, strict=True)])
    label_Q = torch.cat([row[q] for row, q in zip(rows, last, strict=True)])
    return nn.functional.cross_entropy(model.told(h_QW), label_Q)


@torch.no_grad()
def examples(
    model: Copying, text_N: np.ndarray, tokenizer: Any, context: int, rng: np.random.Generator
) -> dict[str, list[Example]]:
    """One example of each kind, each after 1 to `opened` passages that its last words point to."""
    most = context * model.chunk_tokens
    begin = int(rng.integers(most, len(text_N) - 2 * PREDICTED))
    past_N = text_N[begin - most : begin]
    start = int(rng.integers(0, len(text_N) - most)) if rng.integers(FOREIGN) == 0 else begin - most
    many, read = int(rng.choice([1, 2, model.shape.opened])), int(rng.integers(16, PREDICTED + 1))
    window_N = text_N[begin : begin + read + PREDICTED]
    made = {"next": [_opened(model, text_N[start : start + most], window_N, PREDICTED, many)]}
    line_N = tokens_of(tokenizer, ["\n\n"])
    given = int(rng.integers(8, 41))
    at = int(rng.integers(0, most - given - QUOTED))
    quoted_N = np.concatenate([line_N, past_N[at : at + given + QUOTED]])
    made["quote"] = [_opened(model, past_N, quoted_N, QUOTED, many)]
    facts, parts = [], np.split(past_N, np.sort(rng.integers(0, most, 6)))
    for number in range(len(parts) - 1):
        name = "".join(rng.choice(SOUNDS, rng.integers(2, 4))).capitalize()
        facts.append((*SENTENCES[int(rng.integers(len(SENTENCES)))], name, str(rng.integers(100, 1_000_000))))
        told, _, name, code = facts[-1]
        parts[number] = np.concatenate([parts[number], tokens_of(tokenizer, [told.format(name, code)])])
    past_N = np.concatenate(parts)[:most]
    for kind, (_, words, name, code) in zip(("told", "asked"), facts, strict=False):
        words = words if kind == "told" else str(rng.choice(QUESTIONS))
        answer_N = tokens_of(tokenizer, [f" {code}"])
        question_N = tokens_of(tokenizer, [words.format(*[name] * words.count("{}"))])
        made[kind] = [_opened(model, past_N, np.concatenate([question_N, answer_N]), len(answer_N), many)]
    return made


def _opened(model: Copying, past_N: np.ndarray, text_N: np.ndarray, predicted: int, many: int) -> Example:
    """A text after the passages that the words before its predicted ones point to."""
    text = torch.from_numpy(text_N.astype(np.int64))
    words_KT = in_passages(torch.from_numpy(past_N.astype(np.int64)), model.chunk_tokens)
    index = model.reader.index_words(words_KT, torch.zeros(0, 1))
    numbers = model.reader.passages(index, text[:-predicted], many, model.shape.segment)
    return Example(opened_words(words_KT, numbers), text, predicted)
