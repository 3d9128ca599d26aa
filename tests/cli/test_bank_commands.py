"""memlm encode, recall, generate: texts come back, and every wrong call is one sentence with its exit code."""

import io
import json
import shutil
from pathlib import Path

import pytest
from banks import autoencoder, memory_model, tokenizer

from memlm.bank.bank import Bank
from memlm.cli import main
from memlm.loading import save_model

SEA = "The sea was calm, and a cold wind came from the north.\n" * 50
OLD = Path(__file__).parent.parent / "old_banks" / "float16"
BEAR = "Naïve Bären in 東京 \U0001f30a say <|end|> — and no more"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Models, texts and a bank of them; never written to by a test."""
    place = tmp_path_factory.mktemp("place")
    model = autoencoder()
    save_model(model, tokenizer(), place / "auto")
    save_model(memory_model(model), tokenizer(), place / "reads")
    save_model(memory_model(model, "none"), tokenizer(), place / "alone")
    save_model(memory_model(model, "pointer"), tokenizer(), place / "finds")
    save_model(autoencoder(1), tokenizer(), place / "other")
    save_model(model, tokenizer(299), place / "foreign")
    (place / "texts").mkdir()
    (place / "texts" / "sea.txt").write_text(SEA, encoding="utf-8")
    (place / "texts" / "bär.md").write_text(BEAR, encoding="utf-8")
    (place / "empty.txt").write_text("")
    (place / "binary.txt").write_bytes(b"\x00text\xff\xfe" * 99)
    (place / "picture.png").write_bytes(b"\x89PNG")
    (place / "rows.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    (place / "again").mkdir()
    (place / "again" / "sea.txt").write_text("another sea")
    assert main(["encode", str(place / "auto"), str(place / "texts"), "--out", str(place / "bank")]) == 0
    (damaged,) = shutil.copytree(place / "bank", place / "damaged").glob("memories.lance/data/*")
    content = damaged.read_bytes()
    damaged.write_bytes(content[:9999] + bytes([content[9999] ^ 1]) + content[10000:])
    return place


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)


def told(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def test_people_get_figures_and_programs_one_object(tmp_path, capsys):
    assert main(["encode", "auto", "texts", "rows.jsonl", "--out", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    for figure in ("4 documents", "memories of 8 tokens in 256 numbers", "tokens/s", "numbers a token", "bytes"):
        assert figure in out
    assert main(["encode", "auto", "texts", "rows.jsonl", "--out", str(tmp_path / "b"), "--json"]) == 0
    report = told(capsys)
    bank = Bank.open(tmp_path / "b")
    assert report["encoded"]["names"] == ["bär", "sea", "rows:1", "rows:2"]
    assert report["numbers_per_token"] == len(bank) * 256 / bank.tokens
    assert report["bytes_per_text_byte"] == len(bank) * 256 * 4 / sum(e.bytes for e in bank.documents)
    assert (report["chunks"], report["tokens"]) == (len(bank), bank.tokens)


def test_a_recalled_document_is_its_file_to_the_byte(place, capsysbinary):
    assert main(["recall", "bank", "--document", "sea"]) == 0
    assert capsysbinary.readouterr().out == (place / "texts" / "sea.txt").read_bytes()


def test_several_documents_come_with_their_names(capsys):
    assert main(["recall", "bank"]) == 0
    assert capsys.readouterr().out == f"==> bär <==\n{BEAR}\n==> sea <==\n{SEA}\n"


def test_what_came_back_is_counted_against_the_original(capsys):
    assert main(["recall", "bank", "--document", "sea", "--against", "texts/sea.txt"]) == 0
    assert "100.00% of " in capsys.readouterr().err
    assert main(["recall", "bank", "--against", "texts", "--model", "auto", "--json"]) == 0
    report = told(capsys)
    assert [row["text"] for row in report["documents"]] == [BEAR, SEA]
    assert all(row["token_accuracy"] == row["exact_chunks"] == 1 for row in report["documents"])
    assert report["by"] == "decoder"


def test_a_bank_grows(tmp_path, capsys):
    out = ["--out", str(tmp_path / "bank")]
    assert main(["encode", "auto", "texts/sea.txt", *out, "--dtype", "fp16", "--fill", "repeat"]) == 0
    assert main(["encode", "reads", "rows.jsonl", *out, "--append"]) == 0  # the same encoder, in another model
    assert "now holds 3 documents" in capsys.readouterr().out
    assert main(["recall", str(tmp_path / "bank"), "--model", "auto", "--document", "rows:2"]) == 0
    assert capsys.readouterr().out == "two"


def test_the_standard_input_is_a_document(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(BEAR.encode())))
    assert main(["encode", "auto", "-", "--out", str(tmp_path / "bank")]) == 0
    capsys.readouterr()
    assert main(["recall", str(tmp_path / "bank"), "--document", "stdin"]) == 0
    assert capsys.readouterr().out == BEAR
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe")))
    assert main(["encode", "auto", "-", "--out", str(tmp_path / "broken")]) == 2
    assert "not UTF-8" in capsys.readouterr().err
    for blank in (b"", b" \n\n"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(blank)))
        assert main(["encode", "auto", "-", "--out", str(tmp_path / "empty")]) == 2
        assert "holds no text" in capsys.readouterr().err
        assert not (tmp_path / "empty").exists()


def test_text_is_generated_from_memories(capsys):
    call = ["generate", "reads", "--memory", "bank", "--prompt", BEAR, "--max-new-tokens", "9"]
    assert main([*call, "--json"]) == 0
    report = told(capsys)
    assert report["new_tokens"] == len(report["ids"]) <= 9
    assert report["memories"] == len(Bank.open("bank"))
    assert main(call) == 0
    assert capsys.readouterr().out == f"{BEAR}{report['text']}\n"  # streamed, the same text


def test_a_short_text_has_no_memories_to_copy_from_and_one_that_grows_has(capsys):
    call = ["generate", "finds", "--prompt", "The", "--show-memories", "--json", "--max-new-tokens"]
    assert main([*call, "1"]) == 0
    assert told(capsys)["copied"] == []
    assert main([*call, "60"]) == 0  # chunks of its own become memories, which it goes on from
    report = told(capsys)
    assert report["new_tokens"] < 60 or report["copied"]
    assert {row["document"] for row in report["copied"]} <= {"(this text)"}


def test_text_is_copied_from_memories_that_are_told(capsys, tmp_path, monkeypatch):
    shutil.copytree("bank", tmp_path / "bank")
    call = ["generate", "finds", "--memory", str(tmp_path / "bank"), "--prompt", "The sea was calm", "--json"]
    assert main([*call, "--show-memories"]) == 0
    report = told(capsys)
    assert report["text"].startswith(", and a cold wind came from the north.\nThe sea was calm, and")
    assert {row["document"] for row in report["copied"]} <= {"sea", "(this text)"}
    assert any("cold wind" in row["passage"] for row in report["copied"])
    monkeypatch.setattr("memlm.api.own.FILED", 1)  # the same from lists on disk, made once
    for _ in range(2):
        assert main([*call, "--show-memories"]) == 0
        again = told(capsys)
        assert again["ids"] == report["ids"]
    (index,) = (tmp_path / "bank" / "index").iterdir()
    assert main([*call[:-1], "--show-memories"]) == 0
    assert "what it holds" in capsys.readouterr().out
    assert main(["encode", "finds", "rows.jsonl", "--out", str(tmp_path / "bank"), "--append"]) == 0
    assert not (tmp_path / "bank" / "index").exists()  # of another bank now
    assert main(call) == 0
    (index,) = (tmp_path / "bank" / "index").iterdir()
    capsys.readouterr()
    (index / "key_Pd.npy").write_bytes(b"?")
    assert main(call) == 2
    assert f"{index} is damaged" in capsys.readouterr().err
    assert main(["generate", "reads", "--memory", "bank", "--prompt", "x", "--show-memories"]) == 2
    assert "does not choose" in capsys.readouterr().err


def test_memories_and_the_seed_decide_what_is_generated(capsys):
    def ids(*more: str) -> list[int]:
        options = ["--prompt", "", "--sample", "--temperature", "2", "--top-k", "50", "--top-p", "0.99", "--json"]
        assert main(["generate", "reads", *options, *more]) == 0
        return told(capsys)["ids"]

    sea = ids("--memory", "bank", "--document", "sea")
    assert sea == ids("--memory", "bank", "--document", "sea")
    assert sea != ids("--memory", "bank", "--document", "sea", "--seed", "1")
    assert sea != ids("--memory", "bank", "--document", "bär")
    assert sea != ids()


def test_a_bank_tells_what_it_holds_and_what_is_near(place, tmp_path, capsys):
    bank = str(shutil.copytree("bank", tmp_path / "bank"))
    assert main(["bank", "list", bank]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == ["bär", "sea"]
    assert main(["bank", "search", bank, "--model", "auto", "--text", "Naïve Bären", "--top", "2"]) == 0
    first = capsys.readouterr().out.splitlines()[2]
    assert "bär" in first
    assert "Naïve Bä" in first
    search = ["bank", "search", bank, "--text", "Naïve Bär", "--by", "keys", "--json"]
    assert main([*search, "--model", "finds"]) == 0
    assert told(capsys)["found"][0]["document"] == "bär"
    assert main(["bank", "remove", bank, "sea", "--json"]) == 0
    report = told(capsys)
    assert (report["removed"], report["documents"], report["version"]) == (["sea"], 1, 2)
    assert main(["bank", "info", bank, "--version", "1"]) == 0
    assert "2 documents" in capsys.readouterr().out
    assert main(["bank", "compact", bank]) == 0
    assert "1 documents" in capsys.readouterr().out
    assert main(["bank", "info", bank, "--version", "1"]) == 2
    assert "has no version 1" in capsys.readouterr().err


def test_an_old_bank_is_converted(tmp_path, capsys):
    assert main(["recall", str(OLD)]) == 2
    assert f"memlm bank convert {OLD} --out NEW" in capsys.readouterr().err
    assert main(["bank", "convert", str(OLD), "--out", str(tmp_path / "new"), "--dtype", "int8", "--json"]) == 0
    assert (told(capsys)["dtype"], told_documents(tmp_path / "new")) == ("int8", ["brief", "bären", "empty", "whole"])
    assert main(["recall", str(tmp_path / "new"), "--model", "auto", "--document", "whole"]) == 0
    assert capsys.readouterr().out == "the sea was calm and a cold wind"


def told_documents(bank: Path) -> list[str]:
    return [entry.name for entry in Bank.open(bank).documents]


WRONG = {
    "no action": ("bank grow bank", 2, "there is no memlm bank 'grow'; there are info, list"),
    "no such version": ("bank info bank --version 7", 2, "has no version 7; there are 1"),
    "list no bank": ("bank list texts", 2, "is not a bank"),
    "search for nothing": ("bank search bank --text=", 2, "no text"),
    "search by another encoder": ("bank search bank --text x --model other", 2, "another encoder"),
    "search without keys": ("bank search bank --text x --by keys", 2, "no keys of words"),
    "remove nothing": ("bank remove bank", 2, "name at least one document"),
    "remove what is not there": ("bank remove bank sea poem", 2, "no document 'poem'; there are bär, sea"),
    "convert a new one": ("bank convert bank --out {out}", 2, "no bank of memlm 0.2"),
    "convert onto another": (f"bank convert {OLD} --out bank", 2, "exists already"),
    "model absent": ("encode nowhere texts --out {out}", 2, "nowhere is not there"),
    "no model": ("encode texts texts --out {out}", 2, "no model.safetensors"),
    "nothing to encode": ("encode auto --out {out}", 2, "name at least one file"),
    "file absent": ("encode auto nowhere.txt --out {out}", 2, "nowhere.txt is not there"),
    "file empty": ("encode auto empty.txt --out {out}", 2, "empty.txt holds no text"),
    "file binary": ("encode auto texts binary.txt --out {out}", 2, "binary.txt is not UTF-8"),
    "file of another kind": ("encode auto picture.png --out {out}", 2, "'.png' are not read"),
    "two of a name": ("encode auto texts/sea.txt again/sea.txt --out {out}", 2, "two files are called 'sea'"),
    "two of a name in folders": ("encode auto texts again --out {out}", 2, "two documents 'sea'"),
    "no batch": ("encode auto texts --batch 0 --out {out}", 2, "batch must be at least 1"),
    "bank exists": ("encode auto texts --out bank", 2, "exists already"),
    "place below a file": ("encode auto texts --out empty.txt/bank", 2, "empty.txt is no folder"),
    "append to nothing": ("encode auto texts --append --out {out}", 2, "is not there"),
    "append by another encoder": ("encode other rows.jsonl --append --out bank", 2, "another encoder"),
    "append what is there": ("encode auto texts --append --out bank", 2, "two documents 'bär'"),
    "forms no memories": ("encode alone texts --out {out}", 2, "forms no memories"),
    "bank absent": ("recall nowhere", 2, "nowhere is not there"),
    "no bank": ("recall texts", 2, "is not a bank"),
    "bank damaged": ("recall damaged --document sea", 2, "memories.lance is damaged (memories of 'sea'"),
    "document unknown": ("recall bank --document poem", 2, "no document 'poem'; there are bär, sea"),
    "recall by another encoder": ("recall bank --model other", 2, "another encoder"),
    "recall by another tokenizer": ("recall bank --model foreign", 2, "another tokenizer"),
    "against another text": ("recall bank --document sea --against again", 2, "does not hold the text"),
    "generate by an autoencoder": ("generate auto --memory bank --prompt x", 2, "does not predict text"),
    "generate without reading": ("generate alone --memory bank --prompt x", 2, "reads no memories"),
    "generate by another encoder": ("generate reads --memory {foreign} --prompt x", 2, "another encoder"),
    "generate from no document": ("generate reads --memory bank --document poem --prompt x", 2, "no document"),
    "document of no bank": ("generate reads --document sea --prompt x", 2, "name the bank with --memory"),
    "idle temperature": ("generate reads --temperature 2 --prompt x", 2, "add --sample"),
    "no tokens": ("generate reads --max-new-tokens 0 --prompt x", 2, "at least 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_is_one_sentence(name, place, tmp_path, capsys):
    call, code, said = WRONG[name]
    if "{foreign}" in call:
        main(["encode", "other", "texts", "--out", str(tmp_path / "foreign")])
        capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    argv = [word.format(out=tmp_path / "out", foreign=tmp_path / "foreign") for word in call.split()]
    assert main(argv) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("memlm: ")
    assert err.count("\n") == 1
    assert said in err
    assert not (tmp_path / "out").exists()
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before, "something was left behind"


def test_a_model_that_went_away_is_asked_for(place, tmp_path, capsys):
    moved = shutil.copytree(place / "bank", tmp_path / "elsewhere" / "bank")
    assert main(["recall", str(moved)]) == 2
    assert "the model that made it, ../auto, is not found: name it with --model" in capsys.readouterr().err
    shutil.copytree(place / "auto", tmp_path / "elsewhere" / "auto")  # moved together, they find each other
    assert main(["recall", str(moved), "--document", "bär"]) == 0
    assert capsys.readouterr().out == BEAR


def test_a_small_lossless_bank_gives_the_very_text_and_a_check_says_so(place, capsys):
    assert main(["encode", "auto", "texts/sea.txt", "--out", "tiny", "--dtype", "int4", "--lossless", "--json"]) == 0
    encoded = told(capsys)
    assert (encoded["dtype"], encoded["lossless"], encoded["numbers"]) == ("int4", True, None)
    for more in ([], ["--check"]):
        assert main(["recall", "tiny", "--json", *more]) == 0
        row = told(capsys)["documents"][0]
        assert row["exact"] is True
        assert row["text"] == (place / "texts" / "sea.txt").read_text()
    assert (row["checked"], row["doubtful"]) == (row["chunks"], [])
    assert main(["recall", "tiny", "--numbers", "7"]) == 2
    assert "can be cut to 256 numbers" in capsys.readouterr().err
