"""Under what condition memories are read, and writing without a teacher: what is read is what was written."""

import pytest
import torch
from handmade_models import C, T, ordinary, recurrent_shape, shape, text, verbatim

from memlm.measure.reading import logits_of, spliced, write_marked
from memlm.objectives.registry import build_objective


@pytest.mark.parametrize("reader", ["vector", "several"])
def test_other_memories_are_another_text_before_ones_own_chunk(reader):
    model, x, other = ordinary(shape(reader), 300), text(3, C * T - 1), text(3, C * T - 1, seed=1)
    marks = torch.tensor([[False, False, True, True]] * 3)
    with torch.inference_mode():
        got = logits_of(model, x, marks, "other", other)
        torch.testing.assert_close(got, spliced(model, x, marks, other), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(spliced(model, x, marks, x), logits_of(model, x, marks, "own"), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(got, logits_of(model, x, marks, "own"))


def test_a_model_of_all_tokens_without_them_reads_each_chunk_by_itself():
    model, x = ordinary(shape("full"), 300), text(2, 2 * T + 1)
    marks = torch.tensor([[False, True, True]] * 2)
    with torch.inference_mode():
        got = logits_of(model, x, marks, "none")
        for c in range(3):
            alone = model(x[:, c * T : (c + 1) * T], marks=marks[:, c : c + 1]).logits
            torch.testing.assert_close(got[:, c * T : (c + 1) * T], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "any_shape", [shape("vector"), shape("several"), shape("none"), shape("full"), recurrent_shape()]
)
def test_writing_is_predicting_token_by_token_from_what_was_written(any_shape):
    model, x = ordinary(any_shape, 60), text(3, C * T, 60)
    marks = torch.tensor([[False, False, True, True]] * 3)
    for memory in ("own", "none"):
        written = write_marked(model, x, marks, memory)
        assert torch.equal(written[:, : 2 * T], x[:, : 2 * T])
        # What was written is what the model, reading it, predicts: at every place, in one pass.
        predicted = logits_of(model, written, marks, memory).argmax(-1)
        assert torch.equal(written[:, 2 * T :], predicted[:, 2 * T :])
        other = torch.cat([x[:, : 2 * T], text(3, 2 * T, 60, seed=5)], 1)
        assert torch.equal(write_marked(model, other, marks, memory), written)


def test_written_chunks_are_remembered():
    """A model that repeats the last chunk goes on with the one that it wrote itself."""
    x, marks = text(2, C * T), torch.tensor([[False, False, True, True]] * 2)
    written = write_marked(verbatim("repeats the last chunk", 300), x, marks)
    assert torch.equal(written, torch.cat([x[:, : 2 * T], x[:, T : 2 * T], x[:, T : 2 * T]], 1))


@pytest.mark.parametrize("any_shape", [shape("vector"), shape("several"), shape("full"), recurrent_shape()])
def test_a_blank_copy_needs_no_teacher(any_shape):
    """What it reads at a place does not depend on what was predicted before: place by place is all at once."""
    model = ordinary(any_shape, 60)
    batch = build_objective("blank", 60)(text(2, C * T // 2, 60), T)
    with torch.inference_mode():
        at_once = model(batch.input_ids, marks=batch.marks).logits
        for n in range(C * T // 2, C * T):
            so_far = model(batch.input_ids[:, : n + 1], marks=batch.marks[:, : n // T + 1]).logits[:, -1]
            torch.testing.assert_close(so_far, at_once[:, n], rtol=1e-5, atol=1e-5)
