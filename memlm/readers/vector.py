"""The paper's reader: a memory is one entry of the decoder, by a projection to its width; or a few (`vectors`).

Entries hold no more numbers than the decoder is wide: where S W is below M a part of a memory is lost. A place takes
its own token out of an entry by attention's heads, so that many narrow ones read better than few (LOG.md, 51).
"""

import torch
from torch import Tensor, nn

from memlm.readers.config import VectorReader
from memlm.readers.reader import Reader, Sizes


class Vector(Reader):
    """One linear map M -> S*W."""

    def __init__(self, config: VectorReader, sizes: Sizes):
        super().__init__(config, sizes)
        self.vectors = config.vectors
        self.project = nn.Linear(sizes.memory_dim, config.vectors * sizes.width)

    def entries(self, memory_BKM: Tensor) -> Tensor:
        """[B, K, M] -> [B, K, S, W]."""
        return self.project(memory_BKM).unflatten(-1, (self.vectors, -1))

    def begin_as(self, vectors_VW: Tensor) -> None:
        """Outputs of the mean and about the spread of token vectors."""
        begin_as_tokens(self.project, vectors_VW)


def begin_as_tokens(project: nn.Linear, vectors_VW: Tensor) -> None:
    """Initialise a linear map from standardised inputs: outputs have the mean and about the spread of token vectors."""
    spread = float(vectors_VW.std(0).mean())
    nn.init.normal_(project.weight, std=spread / project.in_features**0.5)
    with torch.no_grad():
        project.bias.copy_(vectors_VW.mean(0).repeat(project.out_features // vectors_VW.shape[1]))
