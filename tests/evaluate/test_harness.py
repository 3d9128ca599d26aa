"""lm-eval's three requests, answered by a tiny model: the answers are what the model says, and its memories count."""

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from memory_models import ENCODERS, HEADS, TRANSFORMER, T
from texts import TEXT

from memlm.data.corpus import Corpus
from memlm.evaluate.harness import Harness
from memlm.evaluate.memories import ChunkMemories
from memlm.evaluate.scoring import Scorer
from memlm.huggingface import PreTrainedTokenizerFast
from memlm.loading import build_model
from memlm.models.shapes import CausalShape, MemoryShape
from memlm.nn.vocabulary import END

MEMORY = MemoryShape(encoder=ENCODERS[0], decoder=TRANSFORMER)
CAUSAL = CausalShape(chunk_tokens=23, stack=HEADS)
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def tokenizer(data):
    return Corpus.open(data).tokenizer


def harness(tokenizer, shape=MEMORY, condition="own", batch=None, chat=None):
    model = build_model(shape, tokenizer.get_vocab_size(), 0).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return Harness(model, tokenizer, Scorer(model, condition, ChunkMemories(model), batch=batch), chat)


def request(kind, *args, doc_id=0):
    return Instance(kind, {}, args, 0, ("task", doc_id, 1))


def ids_of(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


class Theirs(TemplateLM):
    """lm-eval's own way to tokenise a pair."""

    eot_token_id = 1

    def __init__(self, tokenizer):
        super().__init__()
        self.of = tokenizer

    def tok_encode(self, string, add_special_tokens=None, **kwargs):
        return ids_of(self.of, string)

    def _loglikelihood_tokens(self, requests, **kwargs): ...
    def loglikelihood_rolling(self, requests): ...
    def generate_until(self, requests): ...


@pytest.mark.parametrize("pair", [("the sea was", " calm"), ("the sea was ", "calm"), ("the sea\n\n", "was calm")])
def test_pairs_are_tokenised_as_lm_eval_does_it(tokenizer, pair):
    text = harness(tokenizer)._pairs([pair])[0]
    assert (text.ids[: text.first], text.ids[text.first :]) == Theirs(tokenizer)._encode_pair(*pair)


def test_a_token_over_the_boundary_is_scored(tokenizer):
    token = next(token for token in tokenizer.get_vocab() if len(token) == 2 and token.isascii())
    text = harness(tokenizer)._pairs([(token[0], token[1])])[0]
    assert text.ids == ids_of(tokenizer, token)
    assert text.first == 0


def test_an_empty_context_is_no_context(tokenizer):
    lm = harness(tokenizer)
    told, _ = lm.loglikelihood([request("loglikelihood", "", "the sea")])[0]
    assert told == pytest.approx(lm.loglikelihood_rolling([request("loglikelihood_rolling", "the sea")])[0], abs=1e-5)


def test_rolling_scores_every_token_once_after_as_much_text_as_there_is_room(tokenizer):
    lm = harness(tokenizer, CAUSAL)
    text = " ".join(WORDS)
    ids = ids_of(tokenizer, text)
    windows = lm._windows(ids)
    assert len(windows) > 2
    assert [i for window in windows for i in window.ids[window.first :]] == ids
    assert {len(window.ids) for window in windows} == {24}
    expected = sum(score.loglikelihood for score in lm.scorer.score(windows))
    assert lm.loglikelihood_rolling([request("loglikelihood_rolling", text)]) == [pytest.approx(expected)]
    assert lm.read["task"][0][0].truncated


def test_rolling_reads_all_memories_of_a_long_text(tokenizer):
    lm = harness(tokenizer)
    text = " ".join(WORDS)
    ids = ids_of(tokenizer, text)
    logits_NV = lm.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = logits_NV.gather(1, torch.tensor(ids)[:, None]).sum().item()
    assert lm.loglikelihood_rolling([request("loglikelihood_rolling", text)]) == [pytest.approx(expected, rel=1e-5)]
    assert lm.read["task"][0][0].memories.tolist() == [n // T for n in range(len(ids))]


@pytest.mark.parametrize("condition", ["own", "none"])
def test_written_text_is_that_of_generate(tokenizer, condition):
    lm = harness(tokenizer, condition=condition)
    prompts = [" ".join(WORDS[:n]) for n in (2, 9)]
    asked = [
        request("generate_until", prompt, {"until": [], "max_gen_toks": 6}, doc_id=i)
        for i, prompt in enumerate(prompts)
    ]
    for i, (prompt, text) in enumerate(zip(prompts, lm.generate_until(asked), strict=True)):
        ids = ids_of(tokenizer, prompt)
        kept = ids if condition == "own" else ids[len(ids) // T * T :]
        whole = lm.model.generate(torch.tensor([kept], dtype=torch.long), max_new_tokens=6)[0].tolist()
        assert text == lm.text(whole[len(kept) :])
        assert lm.read["task"][i][0].memories[0] == len(kept) // T


@pytest.mark.parametrize("condition", ["own", "none", "random"])
def test_what_is_written_together_is_what_is_written_alone(tokenizer, condition):
    alone, together = (harness(tokenizer, condition=condition, batch=batch) for batch in (1, 100))
    first = alone.generate_until([request("generate_until", "the sea", {"until": [], "max_gen_toks": 12})])[0]
    asked = [
        request("generate_until", " ".join(WORDS[:n]), {"until": until, "max_gen_toks": 12}, doc_id=i)
        for i, (n, until) in enumerate(((2, []), (9, []), (2, [first[4:6]]), (11, [first[4:6]]), (40, []), (0, [])))
    ]
    written, calls = alone.generate_until(asked), []
    generate = together.model.generate
    together.model.generate = lambda ids, **more: calls.append(len(ids)) or generate(ids, **more)
    assert together.generate_until(asked) == written
    assert len(calls) < len(asked) == sum(calls)
    for i in range(len(asked)):
        one, other = alone.read["task"][i][0], together.read["task"][i][0]
        assert one.memories.tolist() == other.memories.tolist()[: len(one.memories)]
        assert len(other.memories) == len(one.memories)


def test_drawn_tokens_do_not_depend_on_what_is_asked_beside_them(tokenizer):
    kwargs = {"until": [], "max_gen_toks": 8, "do_sample": True, "temperature": 1.0}
    asked = [request("generate_until", " ".join(WORDS[:n]), kwargs) for n in (2, 9, 4)]
    together = harness(tokenizer).generate_until(asked)
    assert together == [harness(tokenizer).generate_until([one])[0] for one in asked]


TEMPLATE = (
    "{% for m in messages %}<|end|>{{ m.role }}: {{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %} me:{% endif %}"
)


def test_a_chat_has_the_form_of_the_template_and_its_special_tokens(tokenizer):
    chat = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    chat.chat_template = TEMPLATE
    lm = harness(tokenizer, chat=chat)
    prompt = lm.apply_chat_template([{"role": "user", "content": "the sea"}])
    assert prompt == "<|end|>user: the sea me:"
    assert lm._pairs([(prompt, " calm")])[0].ids[0] == END
    assert END not in harness(tokenizer)._pairs([(prompt, " calm")])[0].ids  # in plain text it is text
    history = [{"role": "user", "content": "the sea"}, {"role": "assistant", "content": "was"}]
    assert lm.apply_chat_template(history, add_generation_prompt=False) == "<|end|>user: the sea<|end|>assistant: was"


def test_writing_ends_at_a_stop_string_and_before_it(tokenizer):
    lm = harness(tokenizer)
    whole = lm.generate_until([request("generate_until", "the sea", {"until": [], "max_gen_toks": 12})])[0]
    stop = whole[4:6]
    cut = lm.generate_until([request("generate_until", "the sea", {"until": [stop], "max_gen_toks": 12})])[0]
    assert cut == whole[: whole.find(stop)]
    assert len(lm.read["task"][0][1].memories) < len(lm.read["task"][0][0].memories)
