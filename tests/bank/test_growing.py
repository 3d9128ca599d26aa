"""Banks that grow: only what is new is written, versions stay, what is removed is gone, old banks are converted."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from banks import TEXTS, T, autoencoder, contents, files, recalled, tokenizer

from memlm.bank import writing
from memlm.bank.bank import Bank
from memlm.bank.convert import convert_bank
from memlm.bank.encode import encode_documents
from memlm.bank.kept import Keeping
from memlm.bank.rows import Form, Label, as_memories, as_rows
from memlm.bank.writing import adding, compact_bank, remove_documents
from memlm.errors import UsageError

OLD = Path(__file__).parent.parent / "old_banks" / "float16"  # written by memlm 0.2


@pytest.fixture
def bank(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "bank")


def test_appending_writes_what_is_new_and_versions_stay(bank, model):
    first, before = contents(Bank.open(bank)), files(bank)
    grown = encode_documents(model, tokenizer(), [("new", "a cold wind"), ("newer", "")], bank, append=True)
    after = files(bank)
    assert {name: after[name] for name in before if name != "memories.lance/_versions/latest_version_hint.json"} == {
        name: content for name, content in before.items() if not name.endswith("_hint.json")
    }
    new = [name for name in after if name not in before and "/data/" in name]
    assert len(new) == 1
    assert len(after[new[0]]) < len(before[next(name for name in before if "/data/" in name)])
    assert [entry.name for entry in grown.documents] == [*TEXTS, "new", "newer"]
    assert (grown.version, [one.number for one in grown.versions()]) == (2, [1, 2])
    assert contents(Bank.open(bank, 1)) == first
    with pytest.raises(UsageError, match="has no version 3; there are 1, 2"):
        Bank.open(bank, 3)


@pytest.mark.parametrize("gone", [["sea"], ["empty", "bären"], list(TEXTS)])
def test_what_is_removed_is_gone_and_its_room_is_freed(bank, model, gone):
    whole, before = contents(Bank.open(bank)), Bank.open(bank)
    left = {name: text for name, text in TEXTS.items() if name not in gone}
    smaller = remove_documents(bank, gone)
    assert recalled(smaller, model) == left
    assert contents(before) == whole  # who has it open goes on reading
    assert contents(Bank.open(bank, 1)) == whole
    compacted, removed = contents(smaller), sum(map(len, files(bank).values()))
    assert contents(compact_bank(bank, keep_days=1)) == compacted
    assert contents(Bank.open(bank, 1)) == whole
    assert contents(compact_bank(bank)) == compacted
    assert len(Bank.open(bank).versions()) == 1
    assert sum(map(len, files(bank).values())) < removed
    again = encode_documents(model, tokenizer(), [(name, TEXTS[name]) for name in gone], bank, append=True)
    assert recalled(again, model) == TEXTS


def test_names_are_taken_as_they_are_written(model, tmp_path):
    names = ["it's", "a' OR '1'='1", '"', "", "\\", "東京"]
    encode_documents(model, tokenizer(), [(name, "a cold wind") for name in names], tmp_path / "bank")
    for number, name in enumerate(names):
        assert [one.name for one in remove_documents(tmp_path / "bank", [name]).documents] == names[number + 1 :]
    with pytest.raises(UsageError, match="holds no document 'gone'"):
        remove_documents(tmp_path / "bank", ["gone"])


def test_compacting_many_small_appends_keeps_the_order(model, tmp_path):
    texts = {f"{n}": "the sea was calm " * n for n in range(7)}
    for n, item in enumerate(texts.items()):
        encode_documents(model, tokenizer(), [item], tmp_path / "bank", append=n > 0)
    before = contents(Bank.open(tmp_path / "bank"))
    remove_documents(tmp_path / "bank", ["3"])
    after = compact_bank(tmp_path / "bank")
    assert len(after.table.data.get_fragments()) == 1
    del texts["3"]
    assert recalled(after, model) == texts
    assert contents(after)[0] == before[0][:3] + before[0][4:]


def test_a_document_may_lie_in_several_files(made, model, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "BLOCK", 3000)
    bank = encode_documents(model, tokenizer(), TEXTS.items(), tmp_path / "bank", batch=3)
    assert len(bank.table.data.get_fragments()) > 10
    assert contents(bank) == contents(Bank.open(made))


def test_what_a_killed_writer_wrote_is_removed_by_the_next_one(bank, model):
    whole = files(bank)
    kept: dict[str, bytes] = {}

    def half(writer) -> None:
        writer.add(np.ones((1, T * 32), np.float32), [Label("half", 0, T)])
        writer._flush()
        kept.update({name: content for name, content in files(bank).items() if name not in whole})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), adding(Bank.open(bank)) as writer:
        half(writer)
    assert len(kept) == 1
    assert files(bank) == whole
    for name, content in kept.items():  # as if there had been no time to clear up
        (bank / name).write_bytes(content)
    assert contents(Bank.open(bank))
    encode_documents(model, tokenizer(), [("new", "a")], bank, append=True)
    assert not kept.keys() & files(bank).keys()


def test_a_name_that_is_there_is_refused_before_anything_is_committed(bank, model):
    before = files(bank)
    with pytest.raises(UsageError, match="two documents 'whole'"):
        encode_documents(model, tokenizer(), [("new", "a"), ("whole", "b"), ("newer", "c")], bank, append=True)
    assert files(bank) == before


def test_int8_is_within_half_a_step_and_takes_a_quarter_of_the_room(made, model, tmp_path):
    bank, exact = (
        encode_documents(model, tokenizer(), TEXTS.items(), tmp_path / "bank", keeping=Keeping(dtype="int8")),
        Bank.open(made),
    )
    error = (bank.memories() - exact.memories()).abs().amax(1)
    assert (error <= exact.memories().abs().amax(1) / 254 * 1.001).all()
    assert bank.memory_bytes == len(bank) * (T * 32 + 4)
    assert recalled(bank, model) == TEXTS
    form = Form("int8", 4, 4)
    zero = as_rows(np.zeros((1, 4), np.float32), [Label("x", 0, 1)], form)
    assert as_memories(zero, form).tolist() == [[0, 0, 0, 0]]


def test_an_old_bank_is_converted_and_otherwise_not_read(tmp_path):
    model, texts = autoencoder(), {name: text for name, text in TEXTS.items() if name != "sea"}
    with pytest.raises(UsageError, match=r"as memlm 0\.2 and earlier wrote it: memlm bank convert .* --out NEW"):
        Bank.open(OLD)
    old = shutil.copytree(OLD, tmp_path / "old")
    bank = convert_bank(old, tmp_path / "banks" / "new")
    bank.check_encoder(model, tokenizer())
    assert recalled(bank, model) == texts
    assert bank.memories().numpy().tolist() == np.load(OLD / "memories.npy").astype(np.float32).tolist()
    assert bank.meta.dtype == "fp16"
    assert (bank.path / bank.meta.model).resolve() == tmp_path / "auto"
    assert recalled(convert_bank(OLD, tmp_path / "small", "int8"), model) == texts
    with pytest.raises(UsageError, match="exists already"):
        convert_bank(OLD, tmp_path / "small")
    with pytest.raises(UsageError, match=r"no bank of memlm 0\.2"):
        convert_bank(bank.path, tmp_path / "newer")


@pytest.mark.parametrize("name", ["memories.npy", "meta.json"])
def test_a_damaged_old_bank_is_not_converted(tmp_path, name):
    old = shutil.copytree(OLD, tmp_path / "old")
    content = bytearray((old / name).read_bytes())
    content[700] ^= 1
    (old / name).write_bytes(content)
    with pytest.raises(UsageError):
        convert_bank(old, tmp_path / "new")
    assert [one.name for one in tmp_path.iterdir()] == ["old"]
