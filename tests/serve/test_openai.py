"""The openai client works against a server unchanged, and gets what the Python interface gives."""

import numpy as np
import openai
import pytest

import memlm

TEXT = "the sea was calm and a cold wind came from the north"


@pytest.fixture(scope="module")
def client(listening):
    return openai.OpenAI(base_url=f"{listening.url}/v1", api_key="none", max_retries=0, timeout=30)


@pytest.fixture(scope="module")
def model(place):
    return memlm.load(place / "points", device="cpu")


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["auto", "points", "vector", "other", "copies"]
    assert client.models.retrieve("vector").can["read"] is True


@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}])
def test_embeddings_are_the_memories(client, model, form):
    texts = ["a", TEXT, "Naïve Bären in 東京"]
    told, memories = client.embeddings.create(model="points", input=texts, **form), model.encode(texts)
    assert np.array_equal(np.array([one.embedding for one in told.data], np.float32), memories.vectors)
    assert [[one.text, one.chunk, one.tokens] for one in told.data] == memories.chunks.tolist()
    assert told.usage.prompt_tokens == memories.chunks[:, 2].sum()


def test_what_was_encoded_is_recalled_by_whoever_has_its_decoder(client, listening):
    told = client.embeddings.create(model="vector", input=[TEXT, "a cold wind"]).model_dump()
    assert listening.ask("/recall", {"model": "auto", "memories": told})[1]["texts"] == [TEXT, "a cold wind"]


@pytest.mark.parametrize("given", ["memories", "documents", "bank"])
@pytest.mark.parametrize("stream", [False, True])
def test_text_goes_on_as_from_python(client, model, place, given, stream):
    bank = memlm.Bank.open(place / "bank")
    before = {
        "memories": client.embeddings.create(model="auto", input=TEXT).model_dump(),
        "documents": [TEXT],
        "bank": "sea",
    }[given]
    wanted = model.generate(
        "the sea", memories=bank["sea"] if given == "bank" else model.encode(TEXT), max_new_tokens=12
    )
    asked = {"model": "points", "prompt": "the sea", "max_tokens": 12, "temperature": 0, "extra_body": {given: before}}
    told = client.completions.create(**asked, stream=stream)
    parts = list(told) if stream else [told]
    assert "".join(part.choices[0].text for part in parts) == wanted
    assert wanted
    assert parts[-1].choices[0].finish_reason == "length"


def test_draws_are_of_the_seed(client):
    asked = {"model": "vector", "prompt": "the", "max_tokens": 12}
    one, same, other = (client.completions.create(**asked, seed=seed).choices[0].text for seed in (1, 1, 2))
    assert one == same != other


def test_a_text_ends_before_what_it_is_told_to_stop_at(client):
    asked = {"model": "points", "prompt": "the sea", "max_tokens": 40, "temperature": 0}
    asked["extra_body"] = {"documents": [TEXT]}
    whole = client.completions.create(**asked).choices[0].text
    word = whole.split()[2]
    for stream in (False, True):
        told = client.completions.create(**asked, stop=[word, "never there"], stream=stream)
        parts = list(told) if stream else [told]
        assert "".join(part.choices[0].text for part in parts) == whole[: whole.index(word)]
        assert parts[-1].choices[0].finish_reason == "stop"


def test_usage_is_streamed_if_it_is_asked_for(client):
    asked = {"model": "vector", "prompt": "the sea", "max_tokens": 5, "temperature": 0}
    *_, last = client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    assert last.usage == client.completions.create(**asked).usage


def test_refusals_are_the_clients_own_errors(client):
    mine = client.embeddings.create(model="other", input="a cold wind").model_dump()
    with pytest.raises(openai.BadRequestError, match="was made by another encoder"):
        client.completions.create(model="points", prompt="a", extra_body={"memories": mine})
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-4'; there are auto, points"):
        client.completions.create(model="gpt-4", prompt="a")
    with pytest.raises(openai.BadRequestError, match="predict text token by token"):
        list(client.completions.create(model="auto", prompt="a", stream=True))


def test_a_key_is_asked_of_all_but_the_page_and_health(start):
    locked = start(key="sesame")
    try:
        for key, error in (("sesame", None), ("sesam", openai.AuthenticationError), ("", openai.AuthenticationError)):
            client = openai.OpenAI(base_url=f"{locked.url}/v1", api_key=key or "x", max_retries=0)
            if error is None:
                assert client.embeddings.create(model="auto", input="a").data
            else:
                with pytest.raises(error, match="the key is missing or wrong"):
                    client.embeddings.create(model="auto", input="a")
        nobody = {"Authorization": ""}
        assert [locked.ask(path, **nobody)[0] for path in ("/", "/health", "/metrics", "/v1/models")] == [
            *(200, 200, 401, 401)
        ]
    finally:
        locked.close()
