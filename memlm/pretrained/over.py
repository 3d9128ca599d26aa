"""What models over a language model of others share: they hold and save what was trained, and not the base.

FOLDER/config.json          the shape; the base's name, where it came from and its fingerprint
FOLDER/model.safetensors    encoder, reader, start vectors; all of the base where it was trained
FOLDER/adapter/             the LoRA matrices, as peft writes and reads them
"""

from pathlib import Path
from typing import Any, Self

from safetensors.torch import load_file, save_file

from memlm.memory.encoder import fingerprint
from memlm.models.model import ShapeConfig, TextMemory
from memlm.pretrained.adapter import Adapter, is_adapter
from memlm.pretrained.base import Base, Tokens, open_base
from memlm.readers.config import ReaderConfig
from memlm.readers.reader import Sizes, build_reader


class OverConfig(ShapeConfig[Any]):
    """A config that also names the base."""

    base_source: str | None = None
    base_fingerprint: str | None = None


class OverBase(TextMemory):
    """A model over a frozen or trained base."""

    config_root = OverConfig
    base: Base
    embed: Tokens
    base_part: str  # the name of the submodule that holds it
    base_trained = False  # whether its weights are trained, and so saved here
    adapter: Adapter | None = None  # LoRA on it, if there is any

    def build(self, shape: Any, vocab_size: int) -> None:
        """Open the base that the shape names; the config then also tells where it came from."""
        self.base = open_base(shape.base, vocab_size, shape.window_tokens, self.config.base_fingerprint)
        self.config.base_source, self.config.base_fingerprint = self.base.source, self.base.fingerprint

    def read_soft(self, shape: ReaderConfig, layers: int) -> None:
        """Make the reader, which begins by making vectors like those of the base's tokens."""
        sizes = Sizes(self.chunk_tokens, self.memory_dim, self.base.width, layers, self.embed)
        self.reader = build_reader(shape, sizes)
        self.reader.begin_as(self.base.vectors())

    def post_init(self) -> None:
        """Nothing: the base's weights are what they are."""

    def fingerprint(self) -> str:
        """As of `TextMemory`, with the base's own."""
        return fingerprint(self, {**(self.config.shape or {}), "base": self.config.base_fingerprint})

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What was or could be trained: of a frozen base the adapter alone, of tied weights one."""
        tied = {name: id(p) for name, p in self.named_parameters(remove_duplicate=False)}
        held: dict[Any, tuple[str, Any]] = {}
        for name, tensor in super().state_dict(*args, **kwargs).items():
            if not name.startswith(f"{self.base_part}.") or self.base_trained or is_adapter(name):
                held.setdefault(tied.get(name, name), (name, tensor))
        return dict(held.values())

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Put back what `state_dict` gave; RuntimeError where something is missing, or does not belong here."""
        absent = sorted(self.state_dict().keys() - state_dict.keys())
        found = super().load_state_dict(state_dict, strict=False, assign=assign)
        if strict and (absent or found.unexpected_keys):
            raise RuntimeError(f"there is {'no' if absent else 'a strange'} {(absent or found.unexpected_keys)[0]}")
        return found

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Write config, own weights and adapter into a folder; the base stays where it is."""
        folder = Path(save_directory)
        self.config.architectures = [type(self).__name__]
        self.config.save_pretrained(folder)
        own = {name: t.detach().cpu().contiguous() for name, t in self.state_dict().items() if not is_adapter(name)}
        save_file(own, folder / "model.safetensors", metadata={"format": "pt"})
        if self.adapter is not None:
            self.adapter.save(folder / "adapter")

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, path: str | Path, *, config: Any = None, output_loading_info: bool = False, **kwargs: Any
    ) -> Self | tuple[Self, dict[str, Any]]:
        """Put base, own weights and adapter together again, exactly as they were saved.

        UsageError where the base is not there any more, or is another one; RuntimeError where the files are damaged.
        """
        folder = Path(path)
        root: Any = cls.config_class
        model = cls(config or root.from_pretrained(folder))
        own = load_file(folder / "model.safetensors")
        if model.adapter is not None:
            model.adapter.load(folder / "adapter")
            own |= {name: tensor for name, tensor in model.state_dict().items() if is_adapter(name)}
        model.load_state_dict(own)
        info = {"missing_keys": set(), "mismatched_keys": set(), "unexpected_keys": set(), "error_msgs": []}
        return (model.eval(), info) if output_loading_info else model.eval()
