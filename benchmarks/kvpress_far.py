"""kvpress beside memories, at equal bytes: SmolLM2's compressed cache, asked what `memlm bench smollm2far` asks.

    python benchmarks/kvpress_far.py ask FOLDER --data DATA     # with memlm: FOLDER/questions.json, FOLDER/model
    python -m venv VENV && VENV/bin/pip install -r benchmarks/kvpress.txt
    VENV/bin/python benchmarks/kvpress_far.py press FOLDER      # with kvpress, without memlm: kvpress.md, kvpress.json

A text is read once for all presses (kvpress_caches.py; kvpress 0.5.5, arXiv 2510.00636). Then each question is read at
the positions that it has in the text, and its answer judged as there: the likeliest tokens, earlier ones given.

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
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from kvpress_caches import Told, check, presses, presses_seen, read, seen, unseen, zipped
from torch import Tensor

HERE = Path(__file__).resolve().parent
TASKS = {"needle": "exact_match", "asked": "exact_match", "quote": "token_accuracy"}
NUMBERS = (0, 1, 2, 3)  # of texts; kvpress.md is of 0, 500, 501, 502, as smollm2far.md once was
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


def wilson(share: float, units: int) -> list[float]:
    """The 95 % interval of a share of so many questions, as of measure/intervals.py (which a test compares)."""
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
    """Write a file, whole or not at all; memlm's own way is not at hand where kvpress is installed."""
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
