"""Banks: what goes in comes out, in bounded memory, whole or not at all; nothing damaged or foreign is read."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from banks import PERFECT, TEXTS, T, autoencoder, contents, files, memory_model, recalled, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from memlm.bank.bank import Bank
from memlm.bank.chunks import batches, read_chunks
from memlm.bank.encode import encode_documents
from memlm.bank.kept import Keeping
from memlm.errors import UsageError, WorkError
from memlm.loading import build_model
from memlm.models.shapes import CausalShape, RecurrentShape
from memlm.nn.config import StackConfig
from memlm.tokens.pieces import Document


@pytest.fixture
def bank(made, tmp_path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(made, tmp_path / "bank")


def test_every_text_comes_back_from_its_memories(made, model):
    assert recalled(Bank.open(made), model) == TEXTS


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text(max_size=60), max_size=6), st.integers(1, 9), st.sampled_from(["pad", "repeat"]))
def test_any_texts_come_back_whatever_the_batch(texts, batch, fill):
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        documents = [(str(i), text) for i, text in enumerate(texts)]
        bank = encode_documents(
            autoencoder(), tokenizer(), documents, Path(place) / "bank", keeping=Keeping(fill=fill), batch=batch
        )
        assert recalled(bank, autoencoder()) == dict(documents)
        assert len(bank) == sum(-(-entry.tokens // T) for entry in bank.documents)


def test_a_chunk_is_of_one_document_and_says_how_much_it_holds(made, model):
    bank = Bank.open(made)
    rows = bank.read().chunks
    assert bank.held().tolist() == rows[:, 2].tolist()
    k = 0
    for number, (name, text) in enumerate(TEXTS.items()):
        entry = bank.documents[number]
        ids = tokenizer().encode(text, add_special_tokens=False).ids
        assert (entry.name, entry.tokens, entry.characters) == (name, len(ids), len(text))
        assert entry.bytes == len(text.encode())
        for n in range(0, len(ids), T):
            chunk = ids[n : n + T]
            assert rows[k].tolist() == [number, n // T, len(chunk)]
            alone = model.encode(torch.tensor([(chunk * T)[:T]]))  # a last chunk is filled with its own tokens
            torch.testing.assert_close(bank.memories(slice(k, k + 1)), alone)
            k += 1
    assert k == len(rows) == len(bank)


def test_memories_are_read_by_name_number_and_slice(made):
    bank = Bank.open(made)
    everything = bank.memories()
    assert everything.shape == (len(bank), PERFECT.memory_dim)
    assert everything.dtype == torch.float32
    by_number = torch.cat([bank.memories(i) for i in range(len(TEXTS))])
    by_name = torch.cat([bank.memories(name) for name in TEXTS])
    assert torch.equal(everything, by_number)
    assert torch.equal(everything, by_name)
    assert torch.equal(everything[3:5], bank.memories(slice(3, 5)))
    assert bank.memories("empty").shape == (0, PERFECT.memory_dim)
    with pytest.raises(UsageError, match="no document 'poem'; there are sea, brief, bären, empty, whole"):
        bank.memories("poem")
    with pytest.raises(UsageError, match="without a step"):
        bank.memories(slice(None, None, 2))


def test_a_document_is_never_held_whole(tmp_path, monkeypatch):
    """Pieces are taken as memories are written: at no time do more than a few wait between the two."""
    model, read, encoded, most = autoencoder(), 0, 0, 0
    piece = "the sea was calm " * 4000
    tokens = len(tokenizer().encode(piece, add_special_tokens=False).ids)

    def pieces():
        nonlocal read, most
        for _ in range(20):
            read += 1
            most = max(most, read * tokens - encoded * T)
            yield piece

    own = model.encode

    def counted(ids_BT):
        nonlocal encoded
        encoded += len(ids_BT)
        assert len(ids_BT) <= 512
        return own(ids_BT)

    monkeypatch.setattr(model, "encode", counted)
    bank = encode_documents(model, tokenizer(), [Document("long", pieces())], tmp_path / "bank", batch=512)
    assert bank.tokens == 20 * tokens
    assert most < 3 * tokens


def test_half_precision_takes_half_the_room(made, model, tmp_path):
    bank = encode_documents(model, tokenizer(), TEXTS.items(), tmp_path / "half", keeping=Keeping(dtype="fp16"))
    assert bank.memory_bytes * 2 == Bank.open(made).memory_bytes
    assert bank.memories().dtype == torch.float32
    assert recalled(bank, model) == TEXTS


@pytest.mark.parametrize(("dtype", "size"), [("fp16", 1e6), ("fp32", float("nan"))])
def test_numbers_that_do_not_fit_are_refused(tmp_path, dtype, size):
    model = autoencoder()
    with torch.no_grad():
        model.encoder.readout.project.bias.fill_(size)
    with pytest.raises(UsageError, match=f"that {dtype} cannot"):
        encode_documents(model, tokenizer(), TEXTS.items(), tmp_path / "bank", keeping=Keeping(dtype=dtype))
    assert not list(tmp_path.iterdir())


def test_appending_is_encoding_at_once(made, model, tmp_path):
    some, more = list(TEXTS.items())[:2], list(TEXTS.items())[2:]
    encode_documents(model, tokenizer(), some, tmp_path / "bank")
    bank = encode_documents(model, tokenizer(), more, tmp_path / "bank", append=True)
    assert contents(bank) == contents(Bank.open(made))
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


def test_appending_refuses_what_does_not_belong_and_changes_nothing(bank, model):
    before = files(bank)
    small = build_model(CausalShape(chunk_tokens=T, stack=StackConfig(kind="mixer", width=8)), 300, 0)
    refused = [
        (autoencoder(1), tokenizer(), [("new", "a")], {}, "another encoder"),
        (small, tokenizer(), [("new", "a")], {}, "in 8: take a model"),
        (model, tokenizer(299), [("new", "a")], {}, "another tokenizer"),
        (model, tokenizer(), [("new", "a"), ("sea", "a")], {}, "two documents 'sea'"),
        (model, tokenizer(), [("new", "a")], {"dtype": "fp16"}, "made with dtype fp32"),
        (model, tokenizer(), [("new", "a")], {"fill": "pad"}, "made with fill repeat"),
    ]
    for encoder, tok, documents, options, said in refused:
        with pytest.raises(UsageError, match=said):
            encode_documents(encoder, tok, documents, bank, append=True, keeping=Keeping(**options))
    assert files(bank) == before
    with pytest.raises(UsageError, match="exists already"):
        encode_documents(model, tokenizer(), [("new", "a")], bank)
    with pytest.raises(UsageError, match="is not there"):
        encode_documents(model, tokenizer(), [("new", "a")], bank / "absent", append=True)
    assert files(bank) == before


def test_appending_leaves_files_of_others_and_links_alone(bank, model, tmp_path):
    (tmp_path / "link").symlink_to(bank)
    encode_documents(model, tokenizer(), [("new", "a")], tmp_path / "link", append=True)
    assert (tmp_path / "link").is_symlink()
    assert Bank.open(bank).documents[-1].name == "new"
    (bank / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt, which is not the bank's"):
        encode_documents(model, tokenizer(), [("newer", "a")], bank, append=True)
    assert (bank / "notes.txt").exists()


def test_a_bank_that_changes_meanwhile_is_not_overwritten(bank, model):
    def documents():
        yield "new", "a"
        with pytest.raises(UsageError, match="is being written by process"):
            encode_documents(model, tokenizer(), [("second", "b")], bank, append=True)
        shutil.copytree(bank, other)
        encode_documents(model, tokenizer(), [("first", "b")], other, append=True)
        shutil.copytree(other, bank, dirs_exist_ok=True)  # by something that knows no locks

    other = bank.with_name("other")
    with pytest.raises(WorkError, match="was changed"):
        encode_documents(model, tokenizer(), documents(), bank, append=True)
    assert Bank.open(bank).documents[-1].name == "first"


def test_of_two_that_make_one_bank_the_second_is_refused(model, tmp_path):
    def documents():
        yield "first", "a"
        with pytest.raises(UsageError, match="is being written by process"):
            encode_documents(model, tokenizer(), [("second", "b")], tmp_path / "new")

    assert [e.name for e in encode_documents(model, tokenizer(), documents(), tmp_path / "new").documents] == ["first"]


def test_only_the_encoder_that_made_them_can_read_memories(made, model):
    bank = Bank.open(made)
    bank.check_encoder(model, tokenizer())
    bank.check_encoder(memory_model(model), tokenizer())  # another model with the same frozen encoder
    with pytest.raises(UsageError, match="another encoder"):
        bank.check_encoder(autoencoder(1), tokenizer())
    with pytest.raises(UsageError, match="another tokenizer"):
        bank.check_encoder(model, tokenizer(299))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 64
    path.write_bytes(content)


def garble(path: Path) -> None:
    path.write_bytes(b"\xff\x00{[" * 9)


# Lance does not read the last bytes of a manifest, so that a change there is none: those it reads are in the next test.
DAMAGES = [
    (name, damage)
    for name in ("memories.lance/data/*.lance", "memories.lance/_versions/*.manifest", "meta.json")
    for damage in (cut, flip, garble, Path.unlink)
    if (name, damage) != ("memories.lance/_versions/*.manifest", flip)
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES, ids=lambda of: getattr(of, "__name__", of))
def test_a_damaged_bank_is_one_sentence(bank, model, name, damage):
    (file,) = bank.glob(name)
    damage(file)
    with pytest.raises(UsageError, match=r"meta\.json" if name == "meta.json" else r"memories\.lance") as refused:
        recalled(Bank.open(bank), model)
    assert "\n" not in str(refused.value)


def test_what_is_read_of_a_damaged_table_is_right(bank):
    """A changed byte anywhere in the memories is told, or is of nothing that is read."""
    right, refused = contents(Bank.open(bank)), dict[str, int]()
    for name in ("data/*.lance", "_versions/*.manifest"):
        (file,) = bank.glob(f"memories.lance/{name}")
        content, refused[name] = file.read_bytes(), 0
        for at in range(0, len(content), max(1, len(content) // 150)):
            file.write_bytes(content[:at] + bytes([content[at] ^ 64]) + content[at + 1 :])
            try:
                assert contents(Bank.open(bank)) == right
            except UsageError:
                refused[name] += 1
        file.write_bytes(content)
    assert min(refused.values()) > 40, refused


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 99, "memlm": "9.9"}, r"of format 99, written by memlm 9\.9; memlm .* reads format 3"),
        ({"encoder": "0" * 64}, "is damaged"),
        ({"chunk_tokens": "8"}, "is damaged"),
        ({"chunk_tokens": 0}, "is damaged"),
        ({"chunk_tokens": 9}, "is damaged"),
        ({"dtype": "object"}, "is damaged"),
        ({"memory_dim": 64}, "is damaged"),
        ({"model": 3}, "is damaged"),
        ({"format": 1}, "memlm bank convert .* --out NEW"),
        ({"surprise": 1}, "is damaged"),
    ],
    ids=str,
)
def test_a_meta_that_does_not_fit_is_refused(bank, change, said):
    told = json.loads((bank / "meta.json").read_text())
    (bank / "meta.json").write_text(json.dumps({**told, **change}))
    with pytest.raises(UsageError, match=said):
        Bank.open(bank)


def test_what_is_no_bank_is_refused(data, tmp_path):
    with pytest.raises(UsageError, match="is not there"):
        Bank.open(tmp_path / "absent")
    with pytest.raises(UsageError, match=r"no meta\.json"):
        Bank.open(data)
    (tmp_path / "meta.json").write_text("[]")
    with pytest.raises(UsageError, match="not of a bank"):
        Bank.open(tmp_path)


@pytest.mark.parametrize(
    ("failure", "told"),
    [(OSError(errno.ENOSPC, "No space left on device"), WorkError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_failure_leaves_nothing_or_the_bank_as_it_was(bank, model, tmp_path, monkeypatch, failure, told):
    before = files(bank)

    def fail(*_, **__):
        raise failure

    monkeypatch.setattr("lance.LanceDataset.commit", fail)  # when all has been written
    for out, append in ((tmp_path / "new", False), (bank, True)):
        with pytest.raises(told):
            encode_documents(model, tokenizer(), [("one", "a")], out, append=append)
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]
    assert files(bank) == before


def test_models_that_form_no_memory_of_a_chunk_are_refused(model, tmp_path):
    decoder = StackConfig(kind="transformer", width=8, layers=1, heads=2)
    begins = CausalShape(chunk_tokens=T, stack=StackConfig(kind="mixer", width=8)).encoder_shape
    recurrent = build_model(RecurrentShape(encoder=begins, decoder=decoder), 300, 0)
    for other, said in ((memory_model(model, "none"), "forms no memories"), (recurrent, "not of one")):
        with pytest.raises(UsageError, match=said):
            encode_documents(other, tokenizer(), TEXTS.items(), tmp_path / "bank")
    with pytest.raises(UsageError, match=r"has \d+ tokens and the model knows 300"):
        encode_documents(model, tokenizer(320), TEXTS.items(), tmp_path / "bank")
    assert not list(tmp_path.iterdir())


def test_memories_from_a_bank_are_as_good_as_the_text_itself(model, tmp_path):
    """A document of whole chunks, told as text or as its memories: the same words follow."""
    reader, ids = memory_model(model), tokenizer().encode(TEXTS["sea"], add_special_tokens=False).ids
    text = tokenizer().decode(ids[: 5 * T])
    assert tokenizer().encode(text, add_special_tokens=False).ids == ids[: 5 * T]
    memories = encode_documents(model, tokenizer(), [("sea", text)], tmp_path / "bank").memories("sea")
    prompt = torch.tensor([ids[5 * T : 5 * T + 3]])
    given = reader.generate(prompt, memories=memories[None], max_new_tokens=2 * T, eos_token_id=None)
    told = reader.generate(torch.tensor([ids[: 5 * T + 3]]), max_new_tokens=2 * T, eos_token_id=None)
    assert given[0].tolist() == told[0, 5 * T :].tolist()


def test_where_the_model_was_is_told_as_seen_from_the_bank(model, tmp_path, monkeypatch):
    texts = [("brief", "a")]
    bank = encode_documents(model, tokenizer(), texts, tmp_path / "banks" / "b", model_path=tmp_path / "runs" / "m")
    assert bank.meta.model == "../../runs/m"
    assert str(tmp_path) not in (bank.path / "meta.json").read_text()
    assert bank.made_by().resolve() == tmp_path / "runs" / "m"
    monkeypatch.chdir(tmp_path)
    near = encode_documents(model, tokenizer(), texts, "near", model_path="runs/m")
    assert near.meta.model == "../runs/m"
    far = encode_documents(model, tokenizer(), texts, "far", model_path="/elsewhere/runs/m")
    assert far.meta.model == "m"  # nothing is shared but the root: no absolute place is told
    assert encode_documents(model, tokenizer(), texts, "nowhere").made_by() is None


def test_chunks_and_batches():
    documents = [Document("x", ["the sea was", " calm"]), Document("y", [])]
    ids = tokenizer().encode("the sea was calm", add_special_tokens=False).ids
    T = len(ids) - 1
    blocks = list(read_chunks(tokenizer(), documents, T))
    assert [text.name for _, text, last in blocks if last] == ["x", "y"]
    assert np.concatenate([block for block, *_ in blocks]).tolist() == [ids[:T], [ids[T]] + [0] * (T - 1)]
    filled = np.concatenate([block for block, *_ in read_chunks(tokenizer(), documents, T, "repeat")])
    assert filled.tolist() == [ids[:T], [ids[T]] * T]
    numbers = [np.arange(5), np.arange(5, 5), np.arange(5, 6), np.arange(6, 17)]
    assert [len(block) for block in batches(numbers, 4)] == [4, 4, 4, 4, 1]
    assert np.concatenate(list(batches(numbers, 4))).tolist() == list(range(17))
