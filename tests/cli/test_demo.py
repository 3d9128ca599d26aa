"""The demo from the command line, on a small text and a sliver of its budget: every step, and going on after a stop."""

import json

from texts import write_documents

from memlm.cli import main


def test_the_whole_story(tmp_path, capsys):
    source = write_documents(tmp_path / "text", count=4, words=4000)
    argv = ["demo", "--source", str(source), "--out", str(tmp_path / "demo"), "--scale", "0.01", "--json"]
    assert main(argv) == 0
    report = json.loads(capsys.readouterr().out)
    told = {(r["encoder"], r["training"]) for r in report["results"]}
    assert told >= {
        ("slots", "autoencoder"),
        ("mixer", "autoencoder"),
        ("transformer", "autoencoder"),
        ("mixer", "causal"),
        ("transformer", "causal"),
        ("slots", "untrained"),
        ("mixer", "untrained"),
        ("transformer", "untrained"),
        ("none", "none"),
    }
    needed = {"model", "encoder", "training", "chunk_tokens", "chunk_chars", "memory_dim", "seed", "data", "commit"}
    figures = {"cross_entropy", "entropy_ratio", "token_accuracy", "exact_match", "usable_bits_per_token"}
    for result in report["results"]:
        assert result.keys() >= needed | figures | {f"{name}_ci" for name in figures}
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert "slots" in page

    (tmp_path / "demo" / "report.html").unlink()
    assert main(argv) == 0  # nothing is trained again: the same numbers, and the page is back
    assert json.loads(capsys.readouterr().out)["results"] == report["results"]
    assert (tmp_path / "demo" / "report.html").exists()
