"""memlm claims: the source of E14, memories as they are stored, and the command from a text to its page."""

import json
import math

import numpy as np
import pytest
from texts import write_documents

from memlm.claims import config, runs, symbols, work
from memlm.claims.config import Claims
from memlm.claims.experiments import FORMS, stored
from memlm.cli import main
from memlm.errors import UsageError
from memlm.measure.config import ProbeConfig


def test_the_sources_entropies_are_what_its_transitions_say():
    K = len(symbols.LETTERS)
    step = np.full((K, K), (1 - symbols.GOES_ON) / K) + symbols.GOES_ON * np.roll(np.eye(K), 1, 1)
    for places in range(6):
        joint = np.linalg.matrix_power(step, places) / K
        told = np.where(joint > 0, joint * np.log2(np.maximum(joint, 1e-300) * K * K), 0).sum()
        assert symbols.shared(places) == pytest.approx(told)
    assert symbols.shared(0) == symbols.entropy() == 4.0
    assert symbols.shared(symbols.OLDER) < 0.01 * symbols.entropy() < symbols.shared(symbols.OLDER - 1)


def test_letters_are_drawn_by_these_transitions():
    drawn = symbols.draw(64, 2048, seed=0)
    K = len(symbols.LETTERS)
    assert np.bincount(drawn.ravel(), minlength=K) / drawn.size == pytest.approx(np.full(K, 1 / K), abs=0.005)
    for places in range(1, 4):
        goes_on = np.mean((drawn[:, places:] - drawn[:, :-places]) % K == places)
        share = symbols.GOES_ON**places
        assert goes_on == pytest.approx(share + (1 - share) / K, abs=0.01)


def test_every_letter_is_a_token(tmp_path):
    corpus = symbols.prepare_symbols(tmp_path, documents=8)
    part = corpus.train
    assert (np.diff(part.documents) == symbols.LENGTH + 1).sum() >= 5  # and the end of each
    assert len(set(np.asarray(part.tokens).tolist())) == len(symbols.LETTERS) + 1


def test_stored_memories_are_further_off_with_fewer_bits():
    memories = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    errors = [np.square(stored(memories, form) - memories).mean() for form in FORMS]
    assert errors[0] == 0
    assert errors == sorted(errors)
    assert np.abs(stored(memories, "int3") - memories).max() <= np.abs(memories).max() / 6 + 1e-6


@pytest.mark.parametrize("only", ["", "C8", "C4,", "c4"])
def test_what_is_no_claim_is_refused(only):
    with pytest.raises(UsageError, match="there is no claim or experiment"):
        Claims(only=only)


def test_from_a_text_to_a_page_and_nothing_twice(tmp_path, capsys, monkeypatch):
    probe = ProbeConfig(families=("linear",), train_chunks=(16, 32), seeds=1, steps=1, batch=8)
    tiny = config.Budget(scale=1.0, probe=probe, chunks=16, examples=4, cost_seconds=1.0, everything=False)
    monkeypatch.setattr(config, "QUICK", tiny)
    monkeypatch.setattr(symbols, "DOCUMENTS", 8)
    few = {runs.AUTOENCODER: runs.retention()[runs.AUTOENCODER]}
    monkeypatch.setattr(runs, "retention", lambda: few)
    source, out = write_documents(tmp_path / "text", count=3, words=3000), tmp_path / "claims"
    argv = ["claims", "--source", str(source), "--out", str(out), "--quick", "--seeds", "1", "--scale", "0.001"]
    argv += ["--only", "C2,C4,E10,E11", "--json", "--jobs", "1"]
    assert main(argv) == 0
    told = json.loads(capsys.readouterr().out)
    assert {claim["claim"] for claim in told["claims"]} == {"C2", "C4"}
    assert {claim["verdict"] for claim in told["claims"]} == {"not decided"}  # of one seed
    figures = {clause["figure"]: clause for claim in told["claims"] for clause in claim["clauses"]}
    assert all(math.isfinite(figures[name]["mean"]) for name in ("right_16", "right_64", "gain", "held"))
    assert [table["title"].split("(")[-1] for table in told["experiments"]] == ["E10)", "E11)"]
    page = (out / "claims.md").read_text()
    assert "**This is the quick one**" in page
    assert "| C4 |" in page
    monkeypatch.setattr(work, "train_table", lambda *_, **__: {})
    monkeypatch.setattr("memlm.measure.run.Measurement", None)
    monkeypatch.setattr("memlm.measure.access.measure_access", None)
    assert main(argv) == 0
    again = json.loads(capsys.readouterr().out)
    assert {**again, "minutes": 0} == {**told, "minutes": 0}
