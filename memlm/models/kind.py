"""What a kind of model is, declared once: its config and its specification are one class.

Training, starting from another model, measuring, evaluating and loading read what stands here and ask no model what
it is. A new kind is a `ModelShape` of its own, the model that it names, and an import in `memlm/kinds.py`.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from memlm.memory.encoder_shape import EncoderConfig, EncoderShape
from memlm.objectives.names import NAMES
from memlm.ranges import Count
from memlm.records import Kinds


@dataclass(frozen=True)
class Part:
    """A submodule that a model can hand to another one.

    Args:
        module: its name in this model.
        same: what must be equal in the other one, so that its weights mean the same there.
    """

    module: str
    same: object


@dataclass(frozen=True, kw_only=True)
class ModelShape(Kinds):
    """The config of a model, and the specification of its kind.

    Attributes:
        kind: the name that is saved with it; "memlm-" and this is the `model_type` of saved models.
        model: "module:class" of the model, imported when one is built.
        trained_as: what tables call the training that its encoder had.
        meets: which needs of objectives any model of the kind meets (objectives/names.py).
        calibrated: whether its training ends with how far its decoder of memories can be trusted.
        on_grid: whether windows lie on the grid of chunks, so that a chunk's memory can be kept and read from disk.
    """

    kinds: ClassVar = {}
    model: ClassVar[str]
    trained_as: ClassVar[str]
    meets: ClassVar[frozenset[str]]
    calibrated: ClassVar[bool] = False
    on_grid: ClassVar[bool] = False

    @property
    def chunk_tokens(self) -> int:
        """T, tokens of a chunk: a field of some kinds, of the encoder of others."""
        raise TypeError(f"{type(self).__name__} tells no chunk_tokens")

    @property
    def memory_dim(self) -> int:
        """M, numbers of a memory; 0 where none is formed."""
        return 0

    @property
    def window_tokens(self) -> int:
        """Tokens of one training example."""
        return self.chunk_tokens

    @property
    def objectives(self) -> frozenset[str]:
        """What it can be trained on."""
        return frozenset(name for name, known in NAMES.items() if known.needs in self.meets)

    @property
    def encoder_shape(self) -> Any:
        """What forms its memories; None where it forms none."""
        return None

    @property
    def parts(self) -> dict[str, Part]:
        """What it has in common with models of other kinds, by a name that all of them use."""
        return {} if self.encoder_shape is None else {"encoder": Part("encoder", self.encoder_shape)}

    def of_any_length(self) -> Self:
        """The shape as its weights see it: of any number of chunks, where no weight depends on it."""
        return self


@dataclass(frozen=True, kw_only=True)
class OfChunks(ModelShape):
    """A shape whose training examples are `chunks` chunks."""

    chunks: Count = 4  # C of a training example

    @property
    def window_tokens(self) -> int:
        """N, tokens of one training example."""
        return self.chunks * self.chunk_tokens

    def of_any_length(self) -> Self:
        """No weight depends on how many chunks there are."""
        return replace(self, chunks=1)


@dataclass(frozen=True, kw_only=True)
class OfEncoder(ModelShape):
    """A shape whose memories are formed by its part `encoder`."""

    encoder: EncoderConfig = field(default_factory=EncoderShape)

    @property
    def chunk_tokens(self) -> int:
        """T, the tokens of one memory."""
        return self.encoder.chunk_tokens

    @property
    def memory_dim(self) -> int:
        """M, the numbers of one memory."""
        return self.encoder.memory_dim

    @property
    def encoder_shape(self) -> Any:
        """What forms memories."""
        return self.encoder
