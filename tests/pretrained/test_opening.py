"""Models of others are opened whole or refused with one sentence, before anything is loaded."""

import json
import struct
from types import SimpleNamespace

import httpx2
import pytest
import torch
from foreign_models import KINDS, LAYERS, WIDTH, save_foreign
from transformers import T5Config, T5Model

from memlm.cli import main
from memlm.errors import UsageError, WorkError
from memlm.pretrained import places
from memlm.pretrained.opening import open_pretrained, untrained


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    return save_foreign(kind, tmp_path_factory.mktemp(kind) / "model")


def test_every_kind_is_known_frozen_and_of_the_same_identity_twice(kind, folder):
    opened = open_pretrained(str(folder))
    assert opened.kind == kind
    assert (opened.model.config.hidden_size, opened.model.config.num_hidden_layers) == (WIDTH, LAYERS)
    assert not opened.model.training
    assert not any(p.requires_grad for p in opened.model.parameters())
    assert opened.fingerprint() == open_pretrained(str(folder)).fingerprint()
    assert (opened.pooling is not None) == (kind == "sentence")


def test_the_twin_is_the_architecture_with_other_weights_and_depends_on_the_seed_alone(folder):
    opened = open_pretrained(str(folder))
    before = opened.fingerprint()
    torch.manual_seed(5)
    one = untrained(opened, 1)
    torch.manual_seed(6)
    assert untrained(opened, 1).fingerprint() == one.fingerprint()
    assert len({before, one.fingerprint(), untrained(opened, 2).fingerprint()}) == 3
    assert opened.fingerprint() == before
    shapes = [(name, p.shape) for name, p in opened.model.named_parameters()]
    assert [(name, p.shape) for name, p in one.model.named_parameters()] == shapes


def test_only_causal_models_have_a_head(kind, folder):
    if kind == "causal":
        assert open_pretrained(str(folder), head=True).model.get_output_embeddings() is not None
    else:
        with pytest.raises(UsageError, match="no causal language model"):
            open_pretrained(str(folder), head=True)


@pytest.mark.parametrize(("quantize", "bound"), [("int8", 0.02), ("int4", 0.3)])
def test_rounded_weights_are_near_the_true_ones_and_smaller(quantize, bound, tmp_path):
    folder = save_foreign("causal", tmp_path / "model")
    whole, rounded = open_pretrained(str(folder)), open_pretrained(str(folder), quantize=quantize)
    name = "layers.0.mlp.up_proj"
    true, layer = whole.model.get_submodule(name).weight, rounded.model.get_submodule(name)
    error = (layer.weight() - true).norm() / true.norm()
    assert 0 < error < bound
    assert layer.codes.nbytes <= true.nbytes / (4 if quantize == "int8" else 8)
    assert f"rounded to {quantize[3:]} bits" in rounded.source
    assert rounded.fingerprint() != whole.fingerprint()
    ids = torch.tensor([[5, 6, 7]])
    close = (rounded.model(ids).last_hidden_state - whole.model(ids).last_hidden_state).norm()
    assert close < 4 * bound * whole.model(ids).last_hidden_state.norm()


def _shards(folder):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")


def _config(**changes):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def _cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _fewer_tensors(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})


DAMAGE = {
    "a shard is missing": (_shards, "model-00002-of-00002.safetensors of 2 files of weights is missing"),
    "a file is cut short": (_cut, "cut short"),
    "a pointer in its place": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "Git LFS pointer",
    ),
    "no header": (lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 40) + b"x" * 60), "no header"),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "no header"),
    "a tensor is missing": (_fewer_tensors, "is not complete"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
    "pickled weights": (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pickled weights only"),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
    "another shape": (_config(intermediate_size=64), "is not complete|cannot be loaded"),
    "an unknown architecture": (_config(model_type="mystery"), "config that transformers cannot read"),
    "code of its own": (_config(model_type="mystery", auto_map={"AutoModel": "m.M"}), "runs no code of a model"),
    "no tokenizer": (lambda f: [(f / n).unlink() for n in ("tokenizer.json", "tokenizer_config.json")], "tokenizer"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_damaged_is_told_in_one_sentence(what, data, tmp_path, capsys):
    folder = save_foreign("causal", tmp_path / "model")
    change, expected = DAMAGE[what]
    change(folder)
    with pytest.raises(UsageError, match=expected):
        open_pretrained(str(folder))
    capsys.readouterr()
    assert main(["measure", str(folder), "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("memlm: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_encoder_decoder_model_is_refused(tmp_path):
    T5Model(T5Config(d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=20)).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="encoder-decoder"):
        open_pretrained(str(tmp_path))


def test_too_little_memory_is_told_before_loading(tmp_path, monkeypatch):
    folder = save_foreign("causal", tmp_path / "model")
    monkeypatch.setattr("memlm.pretrained.checks.free_bytes", lambda _: 1000)
    monkeypatch.setattr("memlm.pretrained.opening._load", None)  # would fail if it were loaded
    with pytest.raises(WorkError, match=r"weights in fp32.*are free"):
        open_pretrained(str(folder))


def test_what_is_no_gguf_file_or_a_damaged_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMLM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.gguf"
    path.write_text("hello")
    with pytest.raises(UsageError, match="no GGUF file"):
        open_pretrained(str(path))
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 5, 5))
    with pytest.raises(UsageError, match="damaged or cut short"):
        open_pretrained(str(path))
    assert not (tmp_path / "cache").exists()


def _hub_error(name):
    import huggingface_hub.errors as errors

    request = httpx2.Request("GET", "https://hub.invalid/api")
    response = httpx2.Response(403, request=request)
    kind = getattr(errors, name)
    return kind("no") if name == "LocalEntryNotFoundError" else kind("no", response=response)


HUB = {
    "GatedRepoError": (UsageError, "is gated: accept its terms"),
    "RepositoryNotFoundError": (UsageError, "the hub has no public model of that name"),
    "LocalEntryNotFoundError": (UsageError, "cannot be reached"),
    "HfHubHTTPError": (WorkError, "could not be fetched"),
}


@pytest.mark.parametrize("name", HUB)
def test_what_the_hub_refuses_is_told(name, monkeypatch):
    def refuse(*_, **__):
        raise _hub_error(name)

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    kind, expected = HUB[name]
    with pytest.raises(kind, match=expected):
        open_pretrained("owner/name")


def test_a_snapshot_of_the_hub_is_opened_and_says_which(tmp_path, monkeypatch):
    save_foreign("causal", tmp_path / "0123456789abcdef")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path / "0123456789abcdef"))
    assert open_pretrained("owner/name@main").source == "hub owner/name, revision 0123456789ab"


def test_a_model_in_a_wheel_is_unpacked_once(tmp_path, monkeypatch):
    import zipfile

    from memlm.files import sha256_file

    folder = save_foreign("sentence", tmp_path / "made")
    monkeypatch.setenv("MEMLM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    wheel = tmp_path / "cache" / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in folder.rglob("*"):
            if path.is_file():
                archive.write(path, f"tiny/model/{path.relative_to(folder)}")
    known = places.WheelModel(wheel=wheel.name, sha256=sha256_file(wheel), inside="tiny/model/")
    monkeypatch.setitem(places.WHEELS, "tiny", known)
    first = open_pretrained("tiny")
    wheel.unlink()
    assert open_pretrained("tiny").fingerprint() == first.fingerprint() == open_pretrained(str(folder)).fingerprint()
    assert first.source.startswith("wheel tiny-1-py3-none-any.whl, sha256 ")


def test_without_its_library_a_sentence_model_says_what_to_install(tmp_path, monkeypatch):
    folder = save_foreign("sentence", tmp_path / "model")
    monkeypatch.setattr("memlm.pretrained.opening.importlib.util", SimpleNamespace(find_spec=lambda _: None))
    with pytest.raises(UsageError, match=r"memlm\[pretrained\]"):
        open_pretrained(str(folder))


@pytest.mark.real
def test_the_models_of_the_registry_are_what_they_say():
    smollm, minilm = open_pretrained("smollm2", head=True), open_pretrained("minilm")
    assert "de-quantised from 4 bits" in smollm.source
    ids = torch.tensor([smollm.tokenizer("The capital of France is")["input_ids"]])
    assert smollm.tokenizer.decode(smollm.model(ids).logits[0, -1].argmax()) == " Paris"
    assert (minilm.kind, minilm.model.config.hidden_size) == ("sentence", 384)
