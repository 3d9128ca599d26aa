"""Everything that memlm reads from a disk: a name -> a good file, and the call that reads it to its end."""

import gzip
import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from banks import autoencoder, memory_model, tokenizer
from foreign_models import save_foreign
from made_up_access import rows_of, write_access
from made_up_runs import write_measurement, write_run
from safetensors.numpy import save_file

from memlm.bank.bank import Bank
from memlm.bank.convert import convert_bank
from memlm.bank.encode import encode_documents
from memlm.cli.train import _saved
from memlm.data.corpus import Corpus
from memlm.data.sampler import ChunkSampler
from memlm.data.sources import open_source
from memlm.loading import load_model, save_model
from memlm.measure.brought import as_vectors, read_texts, read_vectors
from memlm.measure.run import _done
from memlm.presets import memory, slots
from memlm.pretrained.opening import open_pretrained
from memlm.pretrained.places import weights_of
from memlm.records import to_dict
from memlm.report.leaderboard import write_leaderboard
from memlm.report.page import make_report, render
from memlm.results.reading import read_runs, shown
from memlm.tokens.tokenizer import load_tokenizer
from memlm.train.checkpoint import load_checkpoint, save_checkpoint
from memlm.train.curriculum import load_curriculum
from memlm.train.tracking import Metrics

TASK = """task: tiny
dataset_path: json
dataset_kwargs:
  data_files:
    test: tiny.jsonl
test_split: test
output_type: loglikelihood
doc_to_text: "{{context}}"
doc_to_target: "{{answer}}"
metric_list:
  - metric: acc
"""
Target = tuple[Path, Callable[[], Any]]


def targets(place: Path, data: Path) -> dict[str, Target]:
    """All of them, made in a folder; `data` is a prepared data set, of which a copy is taken."""
    found: dict[str, Target] = {}

    def add(folder: Path, names: list[str], read: Callable[[], Any]) -> None:
        found.update({f"{folder.name}/{name}": (folder / name, read) for name in names})

    run = place / "run"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(to_dict(slots())))
    (run / "curriculum.json").write_text(json.dumps(to_dict(memory())))
    add(run, ["config.json"], lambda: _saved(run / "config.json"))
    add(run, ["curriculum.json"], lambda: load_curriculum(run))
    old = shutil.copytree(Path(__file__).with_name("old_models") / "vector", place / "old")
    add(old, ["config.json"], lambda: load_model(old))
    for name, model in (("auto", autoencoder()), ("memory", memory_model(autoencoder()))):
        save_model(model, tokenizer(), place / name)
        folder = place / name
        add(folder, ["config.json", "model.safetensors"], lambda folder=folder: load_model(folder))
        add(folder, ["tokenizer.json"], lambda folder=folder: load_tokenizer(folder).encode("the sea"))
    state, moments = autoencoder().state_dict(), {"0.0.exp_avg": next(autoencoder().parameters()).detach()}
    point = save_checkpoint(place / "points", 3, state, moments, {"tokens": 1, "train_seconds": 1.0, "last": {}}, 2)
    add(point, ["state.json", "model.safetensors", "optimizer.safetensors"], lambda: load_checkpoint(point))
    rows = "".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(4))
    (run / "metrics.jsonl").write_text(rows)
    add(run, ["metrics.jsonl"], lambda: Metrics(run / "metrics.jsonl", 3))
    corpus = shutil.copytree(data, place / "corpus")
    files = ["data.json", "tokenizer.json", "train.bin", "train.docs.npy", "tune.docs.npy"]
    add(corpus, files, lambda: _read_corpus(corpus))
    model = autoencoder()
    encode_documents(model, tokenizer(), [("a", "the sea was calm " * 9), ("b", "a cold wind")], place / "bank")
    bank = place / "bank"
    table = [
        str(next(bank.glob(f"memories.lance/{name}")).relative_to(bank)) for name in ("data/*", "_versions/*.manifest")
    ]
    add(bank, ["meta.json", *table], lambda: Bank.open(bank).read())
    first = shutil.copytree(Path(__file__).with_name("old_banks") / "float16", place / "old-bank")
    add(first, ["meta.json", "memories.npy"], lambda: convert_bank(first, _gone(place / "converted")))
    _add_sources(place / "source", add)
    _add_vectors(place / "vectors", add)
    for kind in ("causal", "sentence"):
        folder = save_foreign(kind, place / kind)
        names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
        names += ["modules.json", "sentence_bert_config.json", "1_Pooling/config.json"] if kind == "sentence" else []
        add(folder, names, lambda folder=folder: open_pretrained(str(folder)))
    _add_report(place, add)
    _add_tasks(place / "tasks", add)
    _add_gguf(place / "gguf", add)
    return found


def _gone(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    return path


def _add_gguf(folder: Path, add: Callable[..., None]) -> None:
    """The header of a GGUF file, where its reader is installed."""
    if not find_spec("gguf"):
        return
    from gguf import GGUFWriter

    folder.mkdir()
    writer = GGUFWriter(str(folder / "tiny.gguf"), "llama")
    writer.add_context_length(256)
    writer.add_token_list(["a", "b", "naïve"])
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((4, 32), np.float32))
    for write in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{write}_to_file")()
    writer.close()
    add(folder, ["tiny.gguf"], lambda: weights_of(folder / "tiny.gguf"))


def _add_tasks(folder: Path, add: Callable[..., None]) -> None:
    """Task files, where lm-eval is installed."""
    if not find_spec("lm_eval"):
        return
    from memlm.evaluate.loading import load_tasks, refuse_empty

    folder.mkdir()
    (folder / "tiny.yaml").write_text(TASK)
    (folder / "tiny.jsonl").write_text('{"context": "the sea", "answer": "was"}\n' * 3)

    def read() -> None:
        for number, (name, task) in enumerate(load_tasks([str(folder / "tiny.yaml")], folder / "cache").items()):
            refuse_empty(name, task, number + 3)

    add(folder, ["tiny.yaml", "tiny.jsonl"], read)


def _read_corpus(path: Path) -> None:
    corpus = Corpus.open(path)
    corpus.tokenizer.encode("the sea")
    corpus.token_bytes  # noqa: B018
    corpus.sample("train", 8, 10)
    corpus.chunks("test", 8, 10)
    ChunkSampler(corpus.train.tokens, 8, 2, 0).batch_at(0)


def _add_sources(folder: Path, add: Callable[..., None]) -> None:
    folder.mkdir()
    texts = ["the sea was calm", "naïve 東京", None, "a cold wind"]
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text, "n": 3}) + "\n" for text in texts))
    (folder / "b.csv").write_text('text,n\nthe sea,1\n"a ""cold""\nwind",2\n')
    (folder / "c.txt").write_text("the sea was calm\n" * 30)
    (folder / "d.txt.gz").write_bytes(gzip.compress(b"the sea was calm\n" * 30))
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "n": [1, 2, 3, 4]}), folder / "e.parquet")
    for path in sorted(folder.iterdir()):
        add(folder, [path.name], lambda path=path: ["".join(one.pieces) for one in open_source(str(path))])


def _add_vectors(folder: Path, add: Callable[..., None]) -> None:
    folder.mkdir()
    array = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.save(folder / "a.npy", array)
    save_file({"vectors": array}, folder / "b.safetensors")
    for name in ("a.npy", "b.safetensors"):
        add(folder, [name], lambda path=folder / name: as_vectors(read_vectors(path), 4, "vectors"))
    (folder / "c.json").write_text('["a", "b", {"text": "c"}]')
    (folder / "d.jsonl").write_text('"a"\n{"text": "b"}\n')
    for name in ("c.json", "d.jsonl"):
        add(folder, [name], lambda path=folder / name: read_texts(path))


def _add_report(place: Path, add: Callable[..., None]) -> None:
    measured, trained = write_measurement(place / "measured"), write_run(place / "trained")

    def report(folder: Path) -> None:
        with shown([folder]):
            render(make_report(read_runs([folder])))

    add(measured, ["results.json"], lambda: (report(measured), write_leaderboard([measured], place / "board.md")))
    write_access(place / "access", rows_of("a"))
    add(place / "access", ["access.json"], lambda: report(place / "access"))
    add(trained, ["config.json", "summary.json", "metrics.jsonl", "environment.json"], lambda: report(trained))
    asked = {"models": {}, "data": "", "measure": {}}
    done = place / "done"
    done.mkdir()
    (done / "results.json").write_text(json.dumps({"results": [], "config": asked}))
    (done / "access.json").write_text("[]")
    (done / "attribution.json").write_text('{"results": [], "samples": []}')
    add(done, ["results.json", "access.json", "attribution.json"], lambda: _done(done, asked))
