"""LoRA on a language model, through peft, and only where memories are read.

An entry that reads no memory, a text by itself, is read by the language model as it always was, to the bit: what the
adapter adds there is multiplied by zero. Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file
from torch import Tensor, nn

from memlm.errors import UsageError, first_line

Serves = Literal["reading", "always", "never"]


class Adapter:
    """The low-rank matrices in a language model; they are parameters of that model, named `lora_A` and `lora_B`.

    The model is changed in place. `targets` are the ends of the names of the layers that get some; none: all linear
    layers but the head; of the `upper` blocks alone, if that is told. It `serves` entries that read memories
    (`reading`), or all of them, or none.
    """

    serves: Serves = "reading"
    _gate: Tensor | float = 0.0

    def __init__(self, lm: Any, rank: int, targets: tuple[str, ...] = (), upper: int | None = None):
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError:
            raise UsageError(
                "an adapter needs peft, which is not installed: pip install memlm[pretrained], or set lora_rank 0."
            ) from None
        layers = list(targets) or ("all-linear" if upper is None else _of_upper(lm, upper))
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers, task_type="CAUSAL_LM")
        try:
            with warnings.catch_warnings():  # about old names inside of transformers, and what peft sets right itself
                warnings.simplefilter("ignore")
                self._wrapped = get_peft_model(lm, config)
        except Exception as error:  # peft's own, and KeyError or TypeError of layers that it does not know
            raise UsageError(f"no adapter fits ({first_line(error)}): change lora_targets.") from None
        for name, module in lm.named_modules():
            if ".lora_B." in name and isinstance(module, nn.Linear):
                module.register_forward_hook(self._let_through)

    def gate(self, reads: Tensor | None) -> Tensor | float:
        """What counts of the adapter at entries that read memories or do not: bool [P] or [B, P]; None: none does."""
        if self.serves != "reading":
            return float(self.serves == "always")
        return 0.0 if reads is None else reads[..., None].float()

    @contextmanager
    def gated(self, gate: Tensor | float) -> Iterator[None]:
        """Within it what the adapter adds at each entry is multiplied by `gate`."""
        before, self._gate = self._gate, gate
        try:
            yield
        finally:
            self._gate = before

    def _let_through(self, _module: nn.Module, _inputs: Any, added: Tensor) -> Tensor:
        gate = self._gate
        if isinstance(gate, Tensor) and added.ndim == 2:  # OPT's MLP reads the entries of all rows as one list
            return (added.unflatten(0, (-1, gate.shape[-2])) * gate).flatten(0, 1)
        return added * gate

    def save(self, folder: Path) -> None:
        """Write adapter_config.json and adapter_model.safetensors, as peft reads them too."""
        self._wrapped.save_pretrained(str(folder))

    def load(self, folder: Path) -> None:
        """Take the matrices that `save` wrote; RuntimeError where they are not those of this adapter."""
        from peft import set_peft_model_state_dict

        found = set_peft_model_state_dict(self._wrapped, load_file(folder / "adapter_model.safetensors"))
        absent = [name for name in found.missing_keys if "lora_" in name]
        if absent or found.unexpected_keys:
            raise RuntimeError(f"the adapter has another shape ({(absent or found.unexpected_keys)[0]})")


def _of_upper(lm: Any, upper: int) -> list[str]:
    """The names of the linear layers in the uppermost blocks; GPT-2 has its own class for them."""
    first = lm.config.get_text_config().num_hidden_layers - upper
    linear = [name for name, m in lm.named_modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"]
    blocks = [(name, re.search(r"\.(\d+)\.", name)) for name in linear]
    return [name for name, block in blocks if block and int(block[1]) >= first]


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return ".lora_A." in name or ".lora_B." in name
