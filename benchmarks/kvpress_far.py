"""kvpress beside memories, at equal bytes: SmolLM2's compressed cache, asked what `memlm bench smollm2far` asks.

    python benchmarks/kvpress_far.py ask FOLDER --data DATA     # with memlm: FOLDER/questions.json, FOLDER/model
    python -m venv VENV && VENV/bin/pip install -r benchmarks/kvpress.txt
    VENV/bin/python benchmarks/kvpress_far.py press FOLDER      # with kvpress, without memlm: kvpress.md, kvpress.json

A press drops pairs of keys and values from the cache of a text that was read in full (kvpress 0.5.5, arXiv 2510.00636).
A text is read once: at each layer every press keeps its pairs, as its own hook does after that layer, whose output no
press changes; so one reading serves all (compared with kvpress's own hooks at every start). Then each question is read
at the positions that it has in the text, and its answer judged as there: the likeliest tokens, earlier ones given.

budget    equal: pairs of a head that fill the bytes which the benchmark's memory keeps, the question not counted;
          1/16, 1/4: of the text's; all: the control. Adaptive presses (AdaKV, KVzip) share out as many pairs in all;
          kvpress masks what they drop, so their bytes are counted, not saved
question  unseen: the text is compressed before any question is known, as memories are; one cache serves all questions.
          seen: text and question are compressed together, and the cache is good for that question alone, as in
          `with press(model): model.generate(...)`; the answer's first token still sees everything

Every result is a file of its own in FOLDER/results: what was stopped goes on where it was.
Suffixes: N tokens, Q of an answer, V vocabulary, W the model's width; keys and values are [1, heads, N, size].
"""

import argparse
import json
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Told = dict[str, tuple[Tensor, int]]  # by press: logits [Q, V] of an answer, bytes kept
HERE = Path(__file__).resolve().parent
TASKS = {"needle": "exact_match", "asked": "exact_match", "quote": "token_accuracy"}
NUMBERS = (0, 500, 501, 502)  # the texts of smollm2far.md, which was put together of two processes
SHARES = {"1/16": 1 / 16, "1/4": 1 / 4}  # budgets beside `equal`
NOTES = """\
- Shares right in %, Wilson's 95 % intervals. Lines without a budget: smollm2far.md (memory, bm25: 64 tokens opened).
- MB kept: of the text, and of the longest question where it is seen. Of memory: opened text, a question, the index.
- Every press reads the whole text first, so that reading costs what full context costs, and KVzip several times that.
"""


def ask(
    folder: Path, data: Path, base: str, contexts: Sequence[int], numbers: Sequence[int], beside: list, part: Any
) -> None:
    """Write the benchmark's questions in the model's own ids, and the model; `beside` are rows of its results."""
    from memlm.bench.longtext import books, ids_of, questions
    from memlm.bench.smollm2far import ROOM, Sizes
    from memlm.data.corpus import Corpus
    from memlm.files import atomic_folder, write_json
    from memlm.huggingface import quiet
    from memlm.pretrained.base import open_base
    from memlm.pretrained.transplant import SHIFT, tokenizer_for

    tokenizer, corpus, told = tokenizer_for(base), Corpus.open(data), []
    opened = open_base(base, tokenizer.get_vocab_size(), 3)
    found = {name: ids_of(tokenizer, text) for name, text in books(corpus, part).items()}
    for context in contexts:
        for number in numbers:
            if (one := questions(found, context, number, tokenizer)) is None:
                continue
            text_N = opened.own(ids_of(tokenizer, one[0])[-Sizes().most + ROOM :])
            asked = [(q.task, opened.own(q.question_N).tolist(), opened.own(q.answer_N).tolist()) for q in one[1]]
            text = {"context": context, "number": number, "ids": [opened.begin, *text_N.tolist()]}
            told.append({**text, "asked": [dict(zip(("task", "question", "answer"), q, strict=True)) for q in asked]})
    with atomic_folder(folder) as scratch:
        setting = f"{Path(base).name}: {opened.source}; data {corpus.hash[:12]}, part {part}: {', '.join(found)}"
        known = tokenizer.get_vocab_size() - SHIFT  # the model's table may have more rows
        asked = {"setting": setting, "part": part, "tokens": known, "beside": beside, "texts": told}
        write_json(scratch / "questions.json", asked)
        opened.tokenizer.chat_template = None  # KVzip would take as many of the text's tokens for it, and drop them
        with quiet():
            opened.lm.save_pretrained(scratch / "model")
            opened.tokenizer.save_pretrained(scratch / "model")


@dataclass(frozen=True)
class Held:
    """A cache, compressed or not."""

    pairs: list[tuple[Tensor, Tensor]]  # keys and values of each layer
    masked: list[Any]  # of each layer (text, head, place) of the pairs that an adaptive press drops, or None
    place: int  # of the next token in the text

    @property
    def nbytes(self) -> int:
        """Of what is kept."""
        dropped = sum(len(masked[0]) for masked in self.masked if masked is not None)
        one = 2 * self.pairs[0][0].element_size() * self.pairs[0][0].shape[-1]
        return sum(keys.nbytes + values.nbytes for keys, values in self.pairs) - dropped * one


def presses(kept: int, tokens: int) -> dict[str, Any]:
    """Presses that keep so many of a head's pairs for so many tokens, with kvpress's own settings."""
    import kvpress

    ratio = 1 - (kept + 0.5) / tokens  # it rounds down what is kept
    return {
        "StreamingLLM": kvpress.StreamingLLMPress(ratio),
        "Knorm": kvpress.KnormPress(ratio),
        "SnapKV": kvpress.SnapKVPress(ratio),
        "ExpectedAttention": kvpress.ExpectedAttentionPress(ratio),
        # epsilon as in kvpress's own evaluation
        "AdaKV(ExpectedAttention)": kvpress.AdaKVPress(kvpress.ExpectedAttentionPress(ratio, epsilon=1e-2)),
    }


def presses_seen(kept: int, tokens: int, question: int) -> dict[str, Any]:
    """The same for a text that ends with a question of so many tokens."""
    import kvpress

    ratio = 1 - (kept + 0.5) / tokens
    whole, window = kvpress.SnapKVPress(ratio), kvpress.SnapKVPress(ratio, window_size=question)
    return {"SnapKV": whole, "SnapKV(window: the question)": window}


@contextmanager
def looking(model: Any, see: Callable[..., None]) -> Iterator[None]:
    """Call see(module, hidden states, keys, values, kwargs) after each layer's attention."""

    def hook(module: Any, _: Any, kwargs: dict, __: Any) -> None:
        layer = kwargs["past_key_values"].layers[module.layer_idx]
        see(module, kwargs["hidden_states"], layer.keys, layer.values, kwargs)

    hooks = []
    for layer in model.model.layers:
        layer.self_attn.rotary_emb = model.model.rotary_emb  # where presses look for it
        hooks.append(layer.self_attn.register_forward_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


def cache_of(pairs: list[tuple[Tensor, Tensor]]) -> Any:
    """A cache that begins with copies of pairs."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for number, (keys, values) in enumerate(pairs):
        cache.update(keys, values, number)
    return cache


def mask(model: Any, masked: list[Any] | None) -> None:
    """Tell each layer which pairs its heads drop, as kvpress's attention knows it."""
    for number, layer in enumerate(model.model.layers):
        layer.self_attn.masked_key_indices = masked and masked[number]


def states(model: Any, ids: list[int], place: int, cache: Any) -> Tensor:
    """Hidden states [N, W] of tokens that begin at a place."""
    at_1N = torch.arange(place, place + len(ids))[None]
    return model.model(input_ids=torch.tensor([ids]), position_ids=at_1N, past_key_values=cache).last_hidden_state[0]


def logits(model: Any, held: Held, ids: list[int], last: int) -> Tensor:
    """Logits [last, V] after the last of tokens that stand after what is held."""
    mask(model, held.masked)
    try:
        h_NW = states(model, ids, held.place, cache_of(held.pairs))
    except ValueError:  # kvpress found no key that hides what is masked from all of them; it does from one
        cache = cache_of(held.pairs)
        h_NW = torch.cat([states(model, [token], held.place + i, cache) for i, token in enumerate(ids)])
    mask(model, None)
    return model.lm_head(h_NW[-last:])


def read(model: Any, ids: list[int], wanted: dict[Any, Any]) -> tuple[dict[Any, Held], list[Tensor]]:
    """Read a text once: what presses keep, by name, all of it by None; and what enters each layer's attention."""
    found: dict[Any, Any] = {name: ([], []) for name in (None, *wanted)}
    hidden = []

    def see(module: Any, hidden_1NW: Tensor, keys: Tensor, values: Tensor, kwargs: dict) -> None:
        hidden.append(hidden_1NW)
        for name, (pairs, masked) in found.items():
            module.masked_key_indices, kept = None, (keys, values)
            if name is not None:
                kept = wanted[name].compress(module, hidden_1NW, keys, values, None, kwargs)
            pairs.append(kept)
            masked.append(module.masked_key_indices)
        module.masked_key_indices = None

    for press in wanted.values():
        press.post_init_from_model(model)
    with looking(model, see):
        states(model, ids, 0, cache_of([]))
    return {name: Held(*of, len(ids)) for name, of in found.items()}, hidden


def zipped(model: Any, ids: list[int], full: Held, kept: dict[str, int]) -> dict[Any, Held]:
    """What KVzip keeps: by the inside of kvpress 0.5.5 it reads a text again from its cache, once for all budgets."""
    import kvpress

    found: dict[Any, Held] = {}

    class Zip(kvpress.KVzipPress):
        def compress_post(self, model: Any) -> None:
            for budget, pairs in kept.items():
                self.compression_ratio = 1 - pairs / len(ids)
                super().compress_post(model)
                masked = [layer.self_attn.masked_key_indices for layer in model.model.layers]
                found["KVzip", budget] = Held(full.pairs, masked, full.place)
            mask(model, None)

    press = Zip(0.5)
    with press(model):
        press._context_ids, press._cache = torch.tensor([ids]), cache_of(full.pairs)
    return found


def unseen(model: Any, name: str, held: Held, question: list[int], answer: list[int]) -> Told:
    """A question read after a text's cache, and its answer."""
    return {name: (logits(model, held, question + answer[:-1], len(answer)), held.nbytes)}


def seen(
    model: Any, full: Held, hidden: list[Tensor], kept: int, make: Any, question: list[int], answer: list[int]
) -> Told:
    """A text, as it was read, compressed together with a question, and the answer after that.

    As many pairs are kept as the others have once they have read the question.
    """
    place = full.place + len(question)
    wanted = make(kept + len(question), place, len(question))
    found: dict[str, Any] = {name: [] for name in wanted}

    def see(module: Any, hidden_1nW: Tensor, keys: Tensor, values: Tensor, kwargs: dict) -> None:
        hidden_1NW = torch.cat([hidden[module.layer_idx], hidden_1nW], 1)
        turned = {**kwargs, "position_embeddings": model.model.rotary_emb(hidden_1NW, torch.arange(place)[None])}
        for name, pairs in found.items():
            pairs.append(wanted[name].compress(module, hidden_1NW, keys, values, None, turned))

    with looking(model, see):
        first_1V = model.lm_head(states(model, question, full.place, cache_of(full.pairs))[-1:])
    told = {}
    for name, pairs in found.items():
        held = Held(pairs, [None] * len(pairs), place)
        told[name] = torch.cat([first_1V, logits(model, held, answer[:-1], len(answer) - 1)]), held.nbytes
    return told


def right(task: str, logits_QV: Tensor, answer: list[int]) -> float:
    """Whether all of an answer's tokens are the likeliest; of a quotation the share that is."""
    right_Q = (logits_QV.argmax(-1) == torch.tensor(answer)).float()
    return (right_Q.mean() if TASKS[task] == "token_accuracy" else right_Q.prod()).item()


def measure(model: Any, told: dict, folder: Path, ends: float, make: Any, make_seen: Any, zips: bool = True) -> None:
    """Ask what was not asked yet, the shortest texts first, until the time is up."""
    of = model.config
    bytes_of_pair = of.num_hidden_layers * of.num_key_value_heads * of.head_dim * 2 * 4  # in all layers and heads
    ours = {
        row["context"]: row["value"]
        for row in told["beside"]
        if (row["metric"], row["memory"]) == ("bytes_kept", "memory")
    }
    for text in told["texts"]:
        ids, context, name = text["ids"], text["context"], f"{text['context']}-{text['number']}"
        budgets = {"equal": round(ours[context] / bytes_of_pair)}
        budgets |= {budget: round(share * len(ids)) for budget, share in SHARES.items()}
        wanted = {(press, b): one for b, kept in budgets.items() for press, one in make(kept, len(ids)).items()}
        keys = [("full", "all"), *wanted, *([("KVzip", b) for b in budgets] if zips else ()), ("seen", "equal")]
        paths = {key: folder / "results" / f"{name}-{'-'.join(key).replace('/', '_')}.json" for key in keys}
        missing = [key for key, path in paths.items() if not path.exists()]
        if not missing or time.monotonic() > ends:
            continue
        began = time.monotonic()
        held, hidden = read(model, ids, {key: one for key, one in wanted.items() if key in missing})
        held["full", "all"] = full = held.pop(None)
        print(f"{name}: read by all presses, {time.monotonic() - began:.0f} s", flush=True)
        if again := {budget: kept for budget, kept in budgets.items() if ("KVzip", budget) in missing}:
            held |= zipped(model, ids, full, again)
            print(f"{name}: and by KVzip, {time.monotonic() - began:.0f} s", flush=True)
        for key in missing:
            if time.monotonic() > ends:
                return
            how = {
                "context": context,
                "number": text["number"],
                "budget": key[1],
                "question": "seen" if key[0] == "seen" else "unseen",
            }
            if key[0] == "seen":
                tell = partial(seen, model, full, hidden, budgets["equal"], make_seen)
            else:
                tell = partial(unseen, model, key[0], held.pop(key))
            rows = [{**how, **row} for row in answered(text["asked"], tell, told["tokens"])]
            write(paths[key], json.dumps(rows))
            for row in rows:
                shares = {task: round(sum(of) / max(1, len(of)), 2) for task, of in row["right"].items()}
                print(f"{name}: {row['memory']}, {row['budget']}, {row['question']}: {shares}", flush=True)


def answered(asked: list[dict], tell: Callable[[list[int], list[int]], Told], tokens: int) -> list[dict]:
    """A row for each press that `tell` tells of: which of the questions it gets right, and the most bytes it keeps."""
    rows: dict[str, dict] = {}
    for q in asked:
        for press, (logits_QV, nbytes) in tell(q["question"], q["answer"]).items():
            new = {"memory": press, "bytes_kept": 0, "right": {task: [] for task in TASKS}}
            row = rows.setdefault(press, new)
            row["bytes_kept"] = max(row["bytes_kept"], nbytes)
            row["right"][q["task"]].append(right(q["task"], logits_QV[:, :tokens], q["answer"]))
    return list(rows.values())


def check(model: Any, ids: list[int], make: Any) -> float:
    """How far caches made by one reading are, at most, from those of the presses' own hooks."""
    wanted, apart = make(len(ids) // 4, len(ids)), 0.0
    together, _ = read(model, ids, wanted)
    for name, press in wanted.items():
        alone, held = cache_of([]), together[name]
        with press(model):
            model.model(input_ids=torch.tensor([ids]), past_key_values=alone)
        for layer, own, pairs, masked in zip(model.model.layers, alone.layers, held.pairs, held.masked, strict=True):
            theirs = (own.keys, own.values, *((layer.self_attn.masked_key_indices or ()) if masked else ()))
            for a, b in zip(theirs, (*pairs, *(masked or ())), strict=True):
                apart = max(apart, (a - b).abs().max().item())
        mask(model, None)
    return apart


def wilson(share: float, units: int) -> list[float]:
    """The 95 % interval of a share of so many questions (Wilson 1927)."""
    z2 = 1.959963984540054**2
    middle = (share + z2 / (2 * units)) / (1 + z2 / units)
    half = math.sqrt(z2 * (share * (1 - share) / units + z2 / (4 * units**2))) / (1 + z2 / units)
    return [0.0 if share == 0 else max(0.0, middle - half), 1.0 if share == 1 else min(1.0, middle + half)]


def results(folder: Path, part: str) -> list[dict]:
    """A row for each task of each context, press and budget, over all texts that were asked."""
    found: dict[tuple, list[dict]] = {}
    for path in sorted((folder / "results").glob("*.json")):
        for one in json.loads(path.read_text("utf-8")):
            found.setdefault((one["context"], one["question"], one["budget"], one["memory"]), []).append(one)
    rows = []
    budgets = ("all", "equal", *SHARES)
    for key in sorted(found, key=lambda k: (k[0], k[1] == "seen", budgets.index(k[2]))):
        context, question, budget, memory = key
        for task, metric in TASKS.items():
            shares = [share for one in found[key] for share in one["right"][task]]
            row = {"task": task, "text": part, "metric": metric, "memory": memory, "budget": budget}
            row |= {"question": question, "context": context, "bytes_kept": max(o["bytes_kept"] for o in found[key])}
            row["texts"] = sorted(one["number"] for one in found[key])
            value = sum(shares) / len(shares)
            rows.append({**row, "value": value, "value_ci": wilson(value, len(shares)), "examples": len(shares)})
    return rows


def markdown(report: dict) -> str:
    """The report as a page: a line for each press and budget, the benchmark's own among them."""
    table: dict[tuple, dict[str, Any]] = {}
    for row in [*report["results"], *report["beside"]]:
        of = table.setdefault(tuple(row.get(k, "") for k in ("context", "memory", "budget", "question")), {})
        low, high = row["value_ci"] if row["task"] in TASKS else (0, 0)
        of[row["task"]] = f"{100 * row['value']:.0f} ({100 * low:.0f} to {100 * high:.0f})"
        of["MB"] = row.get("bytes_kept", row["value"] if row["metric"] == "bytes_kept" else of.get("MB", 0))
        of["n"] = f"{row['examples']} {row.get('texts', '')}" if row["task"] in TASKS else of.get("n")
    lines = [f"# kvpress\n\n{__doc__.splitlines()[0]}\n"]
    lines += [f"- {k}: {report[k]}" for k in ("command", "machine", "versions", "commit", "setting", "check")]
    lines += ["", "| context | cache | budget | question | MB kept | needle | asked | quote | questions [texts] |"]
    lines += ["|---" * 9 + "|"]
    for (context, *how), of in sorted(table.items(), key=lambda one: one[0][0]):
        size = f"{of['MB'] / 1e6:.1f}" if of["MB"] else "-"
        cells = [f"{context:,}", *how, size, *(of[task] for task in TASKS), of["n"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + f"\n\n{NOTES}"


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.part")
    scratch.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    os.replace(scratch, path)


def press(folder: Path, out: Path, seconds: float) -> None:
    """Measure, and write the report."""
    import kvpress  # noqa: F401  (it changes attention, so before a model is made)
    from transformers import AutoModelForCausalLM, logging

    logging.disable_progress_bar()
    ends = time.monotonic() + seconds
    told = json.loads((folder / "questions.json").read_text("utf-8"))
    with torch.inference_mode():
        model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
        apart = check(model, told["texts"][0]["ids"][:320], presses)
        if apart > 1e-3:
            raise SystemExit(f"caches of this kvpress are {apart} from ours: install benchmarks/kvpress.txt.")
        measure(model, told, folder, ends, presses, presses_seen)
    git = ["git", "-C", str(HERE), "rev-parse", "--short=12", "HEAD"]
    cpu = [line for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if line.startswith("model name")]
    threads = f"{len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads"
    report = {
        "benchmark": "kvpress",
        "command": "`python benchmarks/kvpress_far.py ask FOLDER --data DATA`, then `... press FOLDER`",
        "machine": f"{cpu[0].split(':', 1)[1].strip()}, {threads}",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("kvpress", "transformers", "torch")),
        "commit": subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip(),
        "setting": told["setting"],
        "check": f"caches of one reading are at most {apart:.1g} from those of kvpress's own hooks (320 tokens)",
        "results": results(folder, told["part"]),
        "beside": told["beside"],
    }
    write(out / "kvpress.json", json.dumps(report, indent=2))
    write(out / "kvpress.md", markdown(report))


def main() -> None:
    """As of the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("step", choices=("ask", "press"))
    parser.add_argument("folder", type=Path, help="where questions, model and single results are")
    parser.add_argument("--data", type=Path, help="ask: a prepared corpus (memlm prepare gutenberg)")
    parser.add_argument(
        "--numbers", type=int, nargs="+", default=NUMBERS, help="ask: the texts of a length, by their seeds"
    )
    parser.add_argument("--out", type=Path, default=HERE, help="press: where kvpress.md and kvpress.json go")
    parser.add_argument("--seconds", type=float, default=math.inf, help="press: stop after so long; again goes on")
    given = parser.parse_args()
    if given.step == "press":
        press(given.folder, given.out, given.seconds)
        return
    if given.data is None:
        parser.error("ask needs --data")
    rows = json.loads((HERE / "smollm2far.json").read_text("utf-8"))["results"]
    beside = [row for row in rows if row["memory"] in ("memory", "bm25", "full") and row["opened"] in (0, 64)]
    beside = [row for row in beside if row["task"] in TASKS or row["metric"] == "bytes_kept"]
    ask(given.folder, given.data, "smollm2", (2048, 4096, 8192), given.numbers, beside, "test")


if __name__ == "__main__":
    main()
