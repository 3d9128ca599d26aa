"""Attention by the rule of `Chunks` in one kernel, torch's FlexAttention: it visits the blocks of 128 x 128 scores that
are seen, and asks the rule only in those that are seen in part. A GPU is trained by it; a CPU is not (torch 2.13).
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from memlm.nn.chunks import Chunks

_SIDE = 128  # of a block


def in_one_kernel(q_BHPK: Tensor, k_BHPK: Tensor, v_BHPK: Tensor, blocks: BlockMask) -> Tensor:
    """As `attend`, by `block_mask` of the rule and in its order; the kernel is compiled when a shape first comes."""
    attend = flex_attention if torch.compiler.is_compiling() else _compiled()
    read = attend(q_BHPK, k_BHPK, v_BHPK, block_mask=blocks)
    assert isinstance(read, Tensor)
    return read


@lru_cache(maxsize=1)
def _compiled() -> Any:
    return torch.compile(flex_attention)


@lru_cache(maxsize=16)
def block_mask(rule: Chunks, device: torch.device) -> BlockMask:
    """Which blocks are seen, and which of them as a whole. Found row by row: the mask is never there at once.

    The prefix stands behind the chunks (`Sight.turn`), so that chunks of whole blocks begin on the edge of one:
    4 chunks of 256 after 3 entries have 19 blocks to visit, 4 of them as a whole, in the place of 27 and none.
    """
    turn = rule.entries - rule.prefix

    def sees(q: Tensor, p: Tensor) -> Tensor:
        return rule.sees(*(torch.where(z < turn, z + rule.prefix, z - turn) for z in (q, p)))

    with torch.inference_mode(False):
        blocks = -(-rule.entries // _SIDE)
        place_P = torch.arange(blocks * _SIDE, device=device)
        some, whole = [], []
        for q in place_P.split(_SIDE):
            q = q[:, None]
            seen = sees(q, place_P) & (q < rule.entries) & (place_P < rule.entries)
            some.append(seen.any(0).unflatten(0, (blocks, _SIDE)).any(1))
            whole.append(seen.all(0).unflatten(0, (blocks, _SIDE)).all(1))
        some_nn, whole_nn = torch.stack(some), torch.stack(whole)
        return BlockMask.from_kv_blocks(
            *_listed(some_nn & ~whole_nn),
            *_listed(whole_nn),
            BLOCK_SIZE=_SIDE,
            mask_mod=lambda b, h, q, p: sees(q, p),
            seq_lengths=(rule.entries, rule.entries),
        )


def _listed(blocks_nn: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of each row of blocks are meant, and their numbers, those that are not meant at the end."""
    order_nn = blocks_nn.int().argsort(dim=1, descending=True, stable=True)
    return blocks_nn.sum(1, dtype=torch.int32)[None, None], order_nn.int()[None, None]
