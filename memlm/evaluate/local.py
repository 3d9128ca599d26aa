"""Tasks of held-out text for use without a network: a prepared corpus -> JSONL files beside their task files.

| task | the model is asked for | right is |
|---|---|---|
| `memlm_lastword` | a passage's last word, told before, half the passage back or more (as LAMBADA) | the word |
| `memlm_needle` | who has what: told in four sentences in the passage, one asked at its end | one of four things |
| `memlm_continue` | how the passage goes on, among endings of three others (as HellaSwag) | its own ending |
| `memlm_text` | a passage, token by token | bits per byte: the fewer the better |

Passages do not overlap, so that examples are independent; the same data, sizes and seed give the same files.
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.files import atomic_folder, write_json, write_sums, write_text
from memlm.locks import one_writer
from memlm.tokens.detokenise import TextStream

_NAMES = "Adam Alice Anne David Edward Emma George Henry James Jane John Mary Peter"
_THINGS = (
    "apple ball bell bird boat book bread chair clock coat cup dog flower gold hammer hat horse house key lamp letter "
    "map money picture ring rose ship silver stone sword table tree watch wine"
)
_TOLD, _CHOICES = 4, 4  # needles in a passage, endings to choose from
_MOST = 20_000  # passages that are looked at


class Passage(NamedTuple):
    """Held-out text of so many tokens, without the parts of words at its ends, and its document."""

    text: str
    document: str


class Room:
    """How much text fits into the tokens of a whole example, counted as the corpus counts them."""

    def __init__(self, corpus: Corpus, tokens: int):
        self.tokenizer, self.tokens = corpus.tokenizer, tokens

    def cut(self, text: str, beside: str) -> str:
        """As much of the text's end as fits beside another text, from a word's beginning on."""
        words, room = re.findall(r"\S+\s*", text), self.tokens - self.count(beside)
        while words and self.count("".join(words)) > room:
            words = words[1:]
        return "".join(words)

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)


@one_writer
def make_tasks(data: Path, out: Path, *, tokens: int = 64, examples: int = 500, seed: int = 0) -> dict[str, Any]:
    """Write the local tasks of a corpus's held-out text into a folder, which must not be there.

    An example has so many `tokens` at most, answer included: a few chunks, for there to be memories.

    Returns:
        what `tasks.json` says: `tasks` (name -> examples), `data` (hash), `tokens`, `seed`.

    Raises:
        UsageError: no data, or too little held-out text for examples of that length.
    """
    if tokens < 48 or examples < 2:
        raise UsageError(f"tasks need two examples of 48 tokens at least, not {examples} of {tokens}.")
    corpus = Corpus.open(data)
    passages, room = _passages(corpus, tokens, seed), Room(corpus, tokens)
    told: dict[str, Any] = {"tasks": {}, "data": corpus.hash, "tokens": tokens, "seed": seed}
    with atomic_folder(out) as scratch:
        for name, make in TASKS.items():
            made = [row for _, row in zip(range(examples), make(passages, room, random.Random(seed)), strict=False)]
            if len(made) < 2:
                raise UsageError(
                    f"{data} has too little held-out text for {name} with {tokens} tokens: prepare more, or take fewer."
                )
            write_text(scratch / f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made))
            task = files("memlm.evaluate").joinpath("tasks", f"{name}.yaml").read_text(encoding="utf-8")
            write_text(scratch / f"{name}.yaml", task)
            told["tasks"][name] = len(made)
        write_json(scratch / "tasks.json", told)
        write_sums(scratch)
    return told


def last_word(passages: list[Passage], room: Room, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Of each passage that has one, the last word that it told before, half its length back and not since."""
    for passage in passages:
        seen: dict[str, int] = {}
        found: dict[str, Any] = {}
        for word in re.finditer(r"(?<=\s)[A-Za-z]{4,}\b", passage.text):
            back = word.start() - seen.get(word[0], word.start())
            if back >= len(passage.text) // 2:
                context = passage.text[: word.start()].rstrip()
                answer = passage.text[len(context) : word.end()]
                found = {"context": context, "answer": answer, "characters_back": back, "document": passage.document}
            seen[word[0]] = word.start()
        if found:
            yield found


def needle(passages: list[Passage], room: Room, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Each passage with four people who have four things, at random places, and a question for one of them."""
    for passage in passages:
        things = [thing for thing in _THINGS.split() if thing not in passage.text]
        names = [name for name in _NAMES.split() if name not in passage.text]
        if len(things) < _TOLD or len(names) < _TOLD:
            continue
        names, things = rng.sample(names, _TOLD), rng.sample(things, _TOLD)
        sentences = [f"{name} has the {thing}." for name, thing in zip(names, things, strict=True)]
        asked, choices = rng.randrange(_TOLD), [f" {thing}" for thing in things]
        question = f"{names[asked]} has the"
        words = room.cut(passage.text, " ".join([*sentences, question, choices[asked], ""])).split()
        if len(words) < _TOLD:
            continue
        places = sorted(rng.randrange(len(words)) for _ in sentences)
        for place, sentence in reversed(list(zip(places, sentences, strict=True))):
            words.insert(place, sentence)
        context = " ".join([*words, question])
        yield {"context": context, "choices": choices, "answer": asked, "document": passage.document}


def continued(passages: list[Passage], room: Room, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Each passage's first three quarters, and four last quarters of which one is its own."""
    places = ((text, text.find(" ", 3 * len(text) // 4), document) for text, document in passages)
    halves = [(text[:at], text[at:], document) for text, at, document in places if at > 0]
    for i, (context, ending, document) in enumerate(halves if len(halves) >= _CHOICES else ()):
        others = [k if k < i else k + 1 for k in rng.sample(range(len(halves) - 1), _CHOICES - 1)]
        answer = rng.randrange(_CHOICES)
        choices = [halves[k][1] for k in others]
        choices.insert(answer, ending)
        context = room.cut(context, max(choices, key=room.count))
        yield {"context": context, "choices": choices, "answer": answer, "document": document}


def whole_text(passages: list[Passage], room: Room, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Each passage as it is."""
    for passage in passages:
        yield {"text": room.cut(passage.text, ""), "document": passage.document}


TASKS: dict[str, Callable[[list[Passage], Room, random.Random], Iterator[dict[str, Any]]]] = {
    "memlm_lastword": last_word,
    "memlm_needle": needle,
    "memlm_continue": continued,
    "memlm_text": whole_text,
}


def _passages(corpus: Corpus, tokens: int, seed: int) -> list[Passage]:
    """Held-out passages that do not overlap, in random order."""
    ids_NT, document_N = corpus.chunks("test", tokens, limit=_MOST)
    passages, stream = [], TextStream(corpus.tokenizer)
    for i in np.random.default_rng(seed).permutation(len(ids_NT)):
        if whole := re.search(r"\s(\S.*)(?=\s)", stream.feed(ids_NT[i].tolist(), last=True), re.DOTALL):
            passages.append(Passage(whole[1], corpus.test.names[document_N[i]]))
    return passages
