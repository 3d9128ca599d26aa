"""What is asked of memories, by hand: needles stand and are drawn as they are said to be, distances are of chunks."""

import pytest
import torch
from handmade_models import C, T, text

from memlm.errors import UsageError
from memlm.measure.tasks import needle, recall, with_needles
from memlm.nn.loss import IGNORED
from memlm.objectives.symbols import symbols

X = IGNORED


def test_needles_by_hand():
    words = torch.arange(10, 18).expand(2, -1)
    batch = with_needles(words, 4, torch.tensor([2, 4]), torch.tensor([50, 60]), torch.tensor([51, 61]))
    assert batch.input_ids.tolist() == [
        [10, 11, 50, 51, 14, 15, 16, 17, 50, 51],
        [10, 11, 12, 13, 60, 61, 16, 17, 60, 61],
    ]
    assert batch.labels.tolist() == [[X] * 9 + [51], [X] * 9 + [61]]
    assert batch.marks.tolist() == [[False, False, True]] * 2
    assert words.tolist() == [list(range(10, 18))] * 2  # the text itself is left alone


def test_needles_are_drawn_where_and_as_they_are_said_to_be():
    V, text_tokens = 60, (C - 1) * T
    words, drawn = text(300, C * T, V), set(symbols(V, "unseen").tolist())
    task = needle(words, T, V, 0)
    batch = task.batch
    assert batch.input_ids.shape == (300, text_tokens + 2)
    spots, asked, told = set(), set(), set()
    for i, (ids, before) in enumerate(zip(batch.input_ids.tolist(), words[:, :text_tokens].tolist(), strict=True)):
        key, value = ids[-2:]
        place = ids.index(key)
        assert key not in before
        assert key != value
        assert ids[:-2] == [*before[:place], key, value, *before[place + 2 :]]
        assert place // T == task.group_BN[i, 0] == i % (C - 1)
        spots.add(place)
        asked.add(key)
        told.add(value)
    assert spots == set(range(0, text_tokens, 2))
    assert asked == told == drawn
    assert task.chance == 1 / (len(drawn) - 1)
    trained = needle(words, T, V, 0, "trained").batch.input_ids[:, -2:]
    assert not drawn & set(trained.flatten().tolist())
    assert torch.equal(needle(words, T, V, 0).batch.input_ids, batch.input_ids)
    assert not torch.equal(needle(words, T, V, 1).batch.input_ids, batch.input_ids)
    with pytest.raises(UsageError):
        needle(words[:, :T], T, V, 0)


def test_the_distance_of_a_recalled_pair_is_counted_in_chunks():
    task = recall(text(5, C * T), T, 300, 0)
    for ids, labels, distance in zip(task.batch.input_ids.tolist(), task.batch.labels, task.group_BN, strict=True):
        for n in torch.nonzero(labels != IGNORED).flatten().tolist():
            told = ids[: (C - 1) * T : 2].index(ids[n - 1]) * 2
            assert distance[n] == n // T - told // T
