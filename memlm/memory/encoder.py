"""A chunk of tokens -> one memory: what autoencoders, language models and memory models have in common."""

import hashlib

import torch
from torch import Tensor, nn

from memlm.errors import UsageError
from memlm.files import sha256_json
from memlm.memory.encoder_shape import EncoderShape
from memlm.memory.readout import READOUTS
from memlm.nn.stack import build_stack
from memlm.nn.vocabulary import END, PAD, token_embedding
from memlm.records import to_dict


class ChunkEncoder(nn.Module):
    """token ids -> embeddings -> stack -> readout -> norm: memories (paper, Autoencoder)."""

    def __init__(self, shape: EncoderShape, vocab_size: int):
        super().__init__()
        self.shape, self.vocab_size = shape, vocab_size
        tokens = shape.chunk_tokens + shape.begins
        self.embed = token_embedding(vocab_size, shape.stack.width)
        self.stack = build_stack(shape.stack, tokens)
        self.readout = READOUTS[shape.readout](tokens, shape.stack.width, shape.memory_dim)
        self.norm = nn.LayerNorm(shape.memory_dim) if shape.memory_norm else nn.Identity()

    def hidden(self, ids_BT: Tensor) -> Tensor:
        """Token ids [B, T] -> hidden states [B, T, D] as they are, nothing put in front."""
        return self.stack(self.embed(ids_BT))

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Token ids [B, T], padded at the end with id 0, -> memories [B, M]; a causal encoder never sees padding."""
        if self.shape.begins:
            ids_BT = torch.cat([torch.full_like(ids_BT[:, :1], END), ids_BT], 1)
        return self.norm(self.readout(self.hidden(ids_BT), ids_BT != PAD))

    def fingerprint(self) -> str:
        """SHA-256 over shape and weights: memories of two encoders mean the same only if theirs are the same."""
        return fingerprint(self, to_dict(self.shape))


class NoEncoder(ChunkEncoder):
    """In the place of an encoder where a model forms no memories: it has no weights."""

    def __init__(self, shape: EncoderShape):
        nn.Module.__init__(self)
        self.shape = shape

    def forward(self, ids_BT: Tensor) -> Tensor:
        """There are no memories to give.

        Raises:
            UsageError: always.
        """
        raise UsageError("this model forms no memories: name one with another reader than none or full.")


def fingerprint(module: nn.Module, shape: object) -> str:
    """SHA-256 over a shape and every weight of a module."""
    digest = hashlib.sha256(sha256_json(shape).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
