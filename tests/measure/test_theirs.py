"""Models of others measured beside ours: same probe, same text, several lengths and layers, embeddings kept."""

from dataclasses import replace

import pytest
from foreign_models import LAYERS, WIDTH, save_foreign

from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.loading import build_model, save_model
from memlm.measure.config import MeasureConfig, ProbeConfig
from memlm.measure.run import measure
from memlm.measure.table import ceilings_table, retention_table
from memlm.models.shapes import AutoencoderShape
from memlm.nn.config import StackConfig

TINY = StackConfig(kind="pointwise", width=8, layers=1)
QUICK = MeasureConfig(chunks=20, probe=ProbeConfig(families=("linear",), train_chunks=(40,), seeds=1), device="cpu")


@pytest.fixture(scope="module")
def folders(data, tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    corpus = Corpus.open(data)
    shape = AutoencoderShape(
        chunk_tokens=8, memory_dim=16, encoder=replace(TINY, layers=0), decoder=TINY, readout="slots", bridge="slots"
    )
    save_model(build_model(shape, corpus.vocab_size, 0), corpus.tokenizer, place / "ours")
    return {"ours": place / "ours"} | {
        kind: save_foreign(kind, place / kind) for kind in ("causal", "masked", "encoder", "sentence")
    }


def test_every_kind_is_measured_beside_ours_with_its_controls(folders, data, tmp_path):
    report = measure([str(folder) for folder in folders.values()], data, tmp_path / "out", QUICK)
    rows = {(r["model"], r["training"]): r for r in report["results"] if r["decoder"] == "fresh"}
    for kind in ("causal", "masked", "encoder", "sentence"):
        for training in (kind, "shuffled", "random-tokens"):
            assert rows[kind, training]["source"] == f"folder {kind}"
        assert rows[f"{kind}-untrained", "untrained"]["memory_dim"] == WIDTH
        own = rows[kind, kind]
        assert (own["layer"], own["chunk_tokens"], own["chunks"]) == (LAYERS, 8, 20)  # the length of our run
        assert own["readout"] == {"causal": "last", "sentence": "pooled"}.get(kind, "mean")
        assert own["usable_bits_per_token_ci"][0] <= own["usable_bits_per_token"]
    assert retention_table(report["results"]).count("\n") == len(report["results"]) + 1


def test_several_lengths_layers_and_readouts_in_one_call(folders, data, tmp_path):
    wanted = replace(QUICK, chunk_tokens=(4, 12), layers=(0, -1), readouts=("last", "mean"), controls=False)
    report = measure([str(folders["causal"]), str(folders["ours"])], data, tmp_path / "out", wanted)
    told = [
        (r["chunk_tokens"], r.get("layer"), r.get("readout")) for r in report["results"] if r["training"] == "causal"
    ]
    views = [(layer, readout) for layer in (0, LAYERS) for readout in ("last", "mean")]
    assert told == [(tokens, *view) for tokens in (4, 12) for view in views]
    assert [r["chunk_tokens"] for r in report["results"] if r["model"] == "ours"] == [8, 8]
    assert [r["chunk_tokens"] for r in report["results"] if r["training"] == "none"] == [4, 8, 12]


def test_a_second_probe_never_runs_the_model(folders, data, tmp_path, monkeypatch):
    call = [str(folders["sentence"])], data
    wanted = replace(QUICK, layers=(1, -1), readouts=("mean",))
    first = measure(*call, tmp_path / "first", wanted, cache=tmp_path / "cache")
    monkeypatch.setattr("memlm.pretrained.hidden.HiddenReader.encode", None)
    # Fewer layers and another probe: what was kept of each layer is found.
    other = replace(wanted, layers=(-1,), probe=replace(QUICK.probe, seed=1))
    second = measure(*call, tmp_path / "second", other, cache=tmp_path / "cache")
    assert len(second["results"]) < len(first["results"])
    with pytest.raises(TypeError):  # other text is not
        measure(*call, tmp_path / "third", replace(other, chunks=10), cache=tmp_path / "cache")


def test_crammed_and_inverted_rows_tell_where_they_come_from(folders, data, tmp_path):
    wanted = replace(
        QUICK, chunk_tokens=(4,), cram=2, cram_steps=3, invert=2, invert_candidates=300, layers=(1, -1), controls=False
    )
    rows = measure([str(folders["causal"]), str(folders["masked"])], data, tmp_path / "out", wanted)["ceilings"]
    assert {(r["task"], r["mode"], r["metric"]) for r in rows} == {
        *(
            ("cram", mode, metric)
            for mode in ("teacher-forced", "free-running")
            for metric in ("token_accuracy", "exact_match")
        ),
        ("cram", "teacher-forced", "bits_gained_per_embedding"),
        *(
            ("invert", mode, metric)
            for mode in ("true-prefix", "found-prefix")
            for metric in ("token_accuracy", "exact_match")
        ),
    }
    for r in rows:
        assert r["value_ci"][0] <= r["value"] <= r["value_ci"][1]
        assert {"model", "data", "chunk_tokens", "seed", "commit", "source", "chunks", "layer"} <= r.keys()
        if r["task"] == "invert" and r["among_candidates"] == 1:
            assert r["value"] == 1
    assert ceilings_table(rows).count("\n") == len(rows) + 1


def test_wrong_calls_leave_nothing(folders, data, tmp_path):
    for changes, expected in (
        ({"layers": (9,)}, "not 9"),
        ({"readouts": ("pooled",)}, "pooled"),
    ):
        with pytest.raises(UsageError, match=expected):
            measure([str(folders["causal"])], data, tmp_path / "out", replace(QUICK, **changes))
    for changes in ({"chunk_tokens": (0,)}, {"batch": 0}, {"cram": -1}):
        with pytest.raises(UsageError):
            replace(QUICK, **changes)
    assert not (tmp_path / "out").exists()
