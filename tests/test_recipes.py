"""Each recipe of docs/architecture.md ("To add ..."), tried by really adding a small one; readers: tiny_readers.py."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from memlm import presets
from memlm.cli.train import main
from memlm.loading import load_model
from memlm.memory import bridge, encoder_shape, readout
from memlm.memory.encoder import ChunkEncoder
from memlm.models.kind import OfEncoder
from memlm.models.model import Generative, Predicted
from memlm.models.shapes import AutoencoderShape
from memlm.nn.config import StackConfig
from memlm.nn.vocabulary import token_embedding
from memlm.objectives import names
from memlm.objectives.batch import Batch, Objective
from memlm.train import optim
from memlm.train.config import OptimConfig, TrainConfig
from memlm.train.loop import train

POINTWISE = StackConfig(kind="pointwise", width=8, layers=1)
SHAPE = AutoencoderShape(
    chunk_tokens=4, memory_dim=16, encoder=POINTWISE, decoder=POINTWISE, readout="slots", bridge="slots"
)


@pytest.fixture
def config(data) -> TrainConfig:
    few = {"steps": 4, "batch": 4, "eval_every": 4, "eval_chunks": 4, "checkpoint_every": 4}
    return TrainConfig(data=data, model=SHAPE, device="cpu", **few)


class FirstAndLast(readout.Last):
    """The sum of the first and the last hidden state."""

    def forward(self, h_BTD, valid_BT):
        return super().forward(h_BTD, valid_BT) + self.project(h_BTD[:, 0])


class Rolled(bridge.Repeat):
    """The memory, turned by a number more at each position."""

    def forward(self, memory_BM):
        z_BTD = super().forward(memory_BM)
        return torch.stack([z_BTD[:, t].roll(t, -1) for t in range(self.tokens)], 1)


def test_a_readout_and_a_bridge(config, tmp_path, monkeypatch):
    monkeypatch.setitem(encoder_shape.READOUTS, "ends", f"{__name__}:FirstAndLast")
    monkeypatch.setitem(encoder_shape.BRIDGES, "rolled", f"{__name__}:Rolled")
    model = replace(SHAPE, readout="ends", bridge="rolled")
    assert train(replace(config, model=model), tmp_path / "run")["step"] == 4


class Backwards(Objective):
    """A chunk told from the last token to the first, from its own memory."""

    def __init__(self, vocab_size: int):
        pass

    def make(self, tokens_BW, chunk_tokens):
        return Batch(tokens_BW, tokens_BW.flip(1), own_rows=len(tokens_BW))


def test_an_objective(config, tmp_path, monkeypatch):
    row = names.Known("a chunk from the last token to the first", f"{__name__}:Backwards", "itself")
    monkeypatch.setitem(names.NAMES, "backwards", row)
    assert train(replace(config, objective="autoencode+0.5*backwards"), tmp_path / "run")["step"] == 4


@dataclass(frozen=True, kw_only=True)
class BagShape(OfEncoder):
    """A model that predicts every token from the words before it, in whatever order."""

    kind: ClassVar[str] = "bag"
    model: ClassVar[str] = f"{__name__}:Bag"
    trained_as: ClassVar[str] = "bag of words"
    meets: ClassVar[frozenset[str]] = frozenset({"past"})


class Bag(Generative, shape=BagShape):
    """The mean of the embeddings so far -> logits."""

    reads_chunks = reads_earlier = False

    def build(self, shape: BagShape, vocab_size: int) -> None:
        self.encoder = ChunkEncoder(shape.encoder, vocab_size)
        self.embed = token_embedding(vocab_size, 8)
        self.head = nn.Linear(8, vocab_size)

    def predict(self, given):
        x_BNW = nn.functional.pad(self.embed(given.ids_BN), (0, 0, 1, 0))[:, :-1]
        return Predicted(self.head(x_BNW.cumsum(1)))


def test_a_kind_of_model(config, tmp_path):
    shape = BagShape(encoder=SHAPE.encoder_shape)
    run = replace(config, model=shape, objective="0.5*causal")
    assert train(run, tmp_path / "run")["step"] == 4
    model = load_model(tmp_path / "run")
    assert isinstance(model, Bag)
    assert model.config.read_shape() == shape
    again = replace(config, start=tmp_path / "run", steps=1)  # its encoder serves an autoencoder
    train(again, tmp_path / "again")


def test_an_optimiser(config, tmp_path, monkeypatch):
    def sgd(params, config: OptimConfig):
        return [torch.optim.SGD([p for _, p in params], lr=config.lr)]

    monkeypatch.setitem(optim.OPTIMIZERS, "sgd", sgd)
    assert train(replace(config, optim=OptimConfig(kind="sgd")), tmp_path / "run")["step"] == 4


def test_a_preset(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(presets.PRESETS, "tiny", lambda: config)
    main(["tiny", "--out", str(tmp_path / "run"), "--steps", "2"])
    assert "2 steps" in capsys.readouterr().out
