"""A language model of others beside what was made over it: in one table, over the same examples, without memories."""

import json
import shutil

import pytest
import torch
from tiny_models import own_tokenizer, save_tiny
from transformers import AutoModelForCausalLM

from memlm.cli import main
from memlm.evaluate.memories import ChunkMemories
from memlm.evaluate.scoring import Scorer, Text, conditions_of, fitted
from memlm.loading import build_model, save_model
from memlm.memory.encoder_shape import EncoderShape
from memlm.nn.config import StackConfig
from memlm.pretrained.shapes import BaseConfig, PretrainedShape, SoftTokens
from memlm.pretrained.transplant import SHIFT, transplant

T, KNOWN = 4, own_tokenizer().get_vocab_size() + SHIFT
YAML = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: tiny.jsonl
test_split: test
output_type: {kind}
doc_to_text: context
doc_to_target: answer
target_delimiter: ""
metric_list:
  - {{metric: {metric}, aggregation: mean, higher_is_better: true}}
"""


def shape(base, **decoder):
    encoder = EncoderShape(
        chunk_tokens=T, memory_dim=12, stack=StackConfig(kind="pointwise", width=8, layers=0), readout="slots"
    )
    config = BaseConfig(name=str(base), **{"lora_rank": 2, **decoder})
    return PretrainedShape(encoder=encoder, reader=SoftTokens(width=6, hidden=10), decoder=config)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def base(request, tmp_path_factory):
    return save_tiny(request.param, tmp_path_factory.mktemp("base") / request.param)


def build(base, **decoder):
    """All that is not the base has weights of ordinary size."""
    model = build_model(shape(base, **decoder), KNOWN, 0).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not name.startswith("decoder.") or "lora_" in name:
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name))) * 0.3)
    return model


def ids(tokens, seed=0):
    return torch.randint(5, KNOWN, (tokens,), generator=torch.Generator().manual_seed(seed)).tolist()


def test_scores_of_the_base_are_those_of_transformers(base):
    model, lm = build(base), AutoModelForCausalLM.from_pretrained(base).eval()
    texts = [Text(ids(n, seed=n), first) for n, first in ((30, 17), (5, 0), (64, 60), (1, 0))]
    scores = Scorer(model, "base", ChunkMemories(model)).score(texts)
    for text, score in zip(texts, scores, strict=True):
        own = torch.tensor([[1, *(i - SHIFT for i in text.ids)]])
        with torch.no_grad():
            logits = lm(own[:, :-1]).logits[0, :, : KNOWN - SHIFT]
        right = logits.log_softmax(-1).gather(1, own[0, 1:, None])[text.first :]
        assert score.loglikelihood == pytest.approx(right.sum().item(), abs=1e-4)
        assert not score.memories.any()
    own = Scorer(model, "own", ChunkMemories(model)).score(texts)
    assert all(abs(a.loglikelihood - b.loglikelihood) > 1e-2 for a, b in zip(own[:3:2], scores[:3:2], strict=True))


def test_the_base_has_room_for_as_many_tokens_as_it_has_positions(base):
    model, text = build(base), Text(ids(100), 99)
    cut = fitted(model, text, condition="base")
    assert len(cut.ids) == min(100, model.base_positions)
    assert cut.truncated == (model.base_positions < 100)
    assert cut.ids[cut.first :] == text.ids[99:]


def test_a_base_that_was_trained_is_not_there_any_more(base):
    assert conditions_of(build(base))[-1] == "base"
    assert "base" not in conditions_of(build(base, lora_rank=0, trained=True))


def test_base_and_memories_stand_in_one_table(base, tmp_path, capsys):
    save_model(build(base), transplant(own_tokenizer(), "tiny"), tmp_path / "over")
    words = ("the sea was calm and the old men", "a cold wind came and all of them", "ships were told of by men")
    lines = [{"context": line, "answer": f" {line.split()[i]}"} for i, line in enumerate(words)]
    (tmp_path / "tiny.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, kind, metric in (("score", "loglikelihood", "acc"), ("write", "generate_until", "exact_match")):
        (tmp_path / f"{name}.yaml").write_text(YAML.format(name=name, kind=kind, metric=metric))
    more = "generation_kwargs: {until: [], max_gen_toks: 2}\n"
    with (tmp_path / "write.yaml").open("a") as file:
        file.write(more)
    tasks = f"{tmp_path / 'score.yaml'},{tmp_path / 'write.yaml'}"
    code = main(["eval", str(tmp_path / "over"), "--tasks", tasks, "--out", str(tmp_path / "out"), "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    rows = json.loads(out)["results"]
    asked = {task: [row["condition"] for row in rows if row["task"] == task] for task in ("score", "write")}
    assert asked == {"score": ["own", "none", "random", "base"], "write": ["own", "none", "random"]}
    assert "over, write: the base writes no text here: left out." in err
    own, none, random, alone = (row for row in rows if row["task"] == "score")
    assert own["memories_max"] == random["memories_max"] > 0 == none["memories_max"] == alone["memories_max"]
    assert own["data"] == alone["data"]
    assert alone["difference_of"] == "own - base"
    assert alone["difference"] == pytest.approx(own["value"] - alone["value"])
    assert alone["difference_ci"][0] <= alone["difference"] <= alone["difference_ci"][1]
    assert alone["base"] == f"folder {base.name}"


def test_a_chat_has_the_form_of_the_bases_tokenizer_and_its_special_tokens(base, tmp_path, capsys):
    shutil.copytree(base, tmp_path / "base")
    template = "{% for m in messages %}<|begin|>{{ m.role }}:{{ m.content }}{% endfor %}<|begin|>me:"
    (tmp_path / "base" / "chat_template.jinja").write_text(template)
    save_model(build(tmp_path / "base"), transplant(own_tokenizer(), "tiny"), tmp_path / "over")
    lines = [{"context": "the sea", "answer": "was"}, {"context": "a wind", "answer": "came"}]
    (tmp_path / "tiny.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "score.yaml").write_text(YAML.format(name="score", kind="loglikelihood", metric="acc"))
    argv = ["eval", str(tmp_path / "over"), "--tasks", str(tmp_path / "score.yaml"), "--out", str(tmp_path / "out")]
    assert main([*argv, "--chat-template", "--log-samples"]) == 0, capsys.readouterr().err
    sample = json.loads((tmp_path / "out" / "samples.jsonl").read_text().splitlines()[0])
    assert sample["arguments"][0][0] == "<|begin|>user:the sea<|begin|>me:"
    plain = len(transplant(own_tokenizer(), "tiny").encode("user:the seame:").ids)
    assert sample["memories"][2] == (plain + 2) // T  # the special tokens are one token each
