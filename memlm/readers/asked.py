"""Training mixes memories into the predictions that are scored, and into no others.

Of questions, quotations and copies a half or less is scored. Rows of which no more is are mixed apart from the others,
as wide as the one with the most: what finding, shares and their gradients cost follows the number of scored places.
"""

from collections.abc import Callable

from torch import Tensor

from memlm.readers.reader import Kept, Mixed, Queries


def mix_asked(
    mix: Callable[[Tensor, Tensor, Kept, Queries], Mixed],
    logits_BQV: Tensor,
    h_BQW: Tensor,
    kept: Kept,
    queries: Queries,
    asked_BQ: Tensor,
) -> Mixed:
    """`Reader.mix` where something is asked; elsewhere logits are the model's own, and what is opened is not told.

    Args:
        mix: a reader's own, of all places that it is given.
        logits_BQV: of the model alone.
        h_BQW: its hidden states.
        kept: of memories.
        queries: of all places.
        asked_BQ: bool, which places are scored.
    """
    count_B = asked_BQ.sum(-1)
    few_B, parts = count_B <= asked_BQ.shape[1] // 2, list[tuple[Tensor, Tensor, Mixed]]()
    mixed_BQV = logits_BQV.clone()
    for row_r in (few_B.nonzero()[:, 0], (~few_B).nonzero()[:, 0]):
        if not len(row_r):
            continue
        most = max(1, int(count_B[row_r].max()))  # a row without any is mixed at one place, so that there is a gradient
        at_rA, row_r1 = (~asked_BQ[row_r]).int().argsort(stable=True)[:, :most], row_r[:, None]
        kept_r = tuple(t.index_select(0, row_r) for t in kept)
        part = mix(logits_BQV[row_r1, at_rA], h_BQW[row_r1, at_rA], kept_r, queries.at(row_r1, at_rA))
        mixed_BQV = mixed_BQV.to(part.logits).index_put_((row_r1, at_rA), part.logits)
        parts.append((row_r1, at_rA, part))

    def lesson(labels_BQ: Tensor) -> Tensor:
        nats_BQ = mixed_BQV.new_zeros(labels_BQ.shape)
        for row_r1, at_rA, part in parts:
            assert part.lesson is not None
            nats_BQ = nats_BQ.index_put((row_r1, at_rA), part.lesson(labels_BQ[row_r1, at_rA]).to(nats_BQ))
        return nats_BQ

    return Mixed(mixed_BQV, lesson=None if any(part.lesson is None for *_, part in parts) else lesson)
