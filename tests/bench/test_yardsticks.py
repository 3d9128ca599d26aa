"""What yardsticks ask can be told from what they tell, and from nothing else."""

import numpy as np
import pytest

from memlm.bench import longtext, ruler, yardsticks
from memlm.nn.loss import IGNORED


def test_values_of_pairs_are_those_told():
    batch = yardsticks.pairs_asked(np.random.default_rng(0), 3, 8)
    told = batch.remembered * yardsticks.T
    for ids, labels in zip(batch.input_ids, batch.labels, strict=True):
        text = ids[:told].tolist()
        lines = {tuple(text[n : n + 2]): text[n + 3 : n + 5] for n in range(0, 6 * 8, 6)}
        assert len(lines) == 8  # no key twice
        asked = ids[told:].view(-1, yardsticks.T).tolist()
        scored = labels[told:].view(-1, yardsticks.T)
        assert [lines[tuple(line[:2])] for line in asked] == [row[row != IGNORED].tolist() for row in scored]


@pytest.mark.parametrize("size", yardsticks.MQAR["test"])
def test_a_query_of_mqar_is_a_key_and_its_label_the_value(size):
    tokens, pairs = size
    batch = yardsticks.mqar_asked(np.random.default_rng(0), 2, 600, size)
    for ids, labels in zip(batch.input_ids, batch.labels, strict=True):
        told = dict(ids[: 2 * pairs].view(-1, 2).tolist())
        places = (labels != IGNORED).nonzero()[:, 0]
        assert len(told) == len(places) == pairs
        assert tokens >= places.max() >= places.min() > 2 * pairs
        assert [told[int(ids[p - 1])] for p in places] == labels[places].tolist()


def test_needles_do_not_stand_over_one_another():
    rng = np.random.default_rng(0)
    for _ in range(20):
        told = [[0] * n for n in (5, 9, 3, 9)]
        places = ruler._places(rng, told, 60)
        assert (np.diff(places) >= 9).all()
        assert places[-1] + 9 <= 60


@pytest.mark.parametrize("task", ruler.TASKS)
def test_what_ruler_asks_is_told_in_the_text_in_its_order(task):
    rng = np.random.default_rng(0)
    told, asked = ruler.TASKS[task](rng, "as published")
    text = longtext.told_in("One. Two. Three.", [f" {sentence}" for sentence in told], rng)
    places = [text.index(sentence) for sentence in told]
    assert places == sorted(places)
    for number, question in enumerate(asked):
        name = question.answer.strip(" .")
        assert name in told[number]
        assert name not in question.asks + question.begins
    if task != "vt":
        assert all(question.answer in sentence for question, sentence in zip(asked, told, strict=True))
