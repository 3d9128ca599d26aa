"""A shape -> a fresh model; a saved folder -> the model it holds; a model and its tokenizer -> a saved folder."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer

from memlm.errors import UsageError, refusing
from memlm.files import atomic_folder, read_object, telling_version, write_sums
from memlm.huggingface import PreTrainedTokenizerFast, quiet
from memlm.kinds import ModelShape
from memlm.legacy import modern_shape
from memlm.locks import mend
from memlm.models.model import TextMemory
from memlm.named import named
from memlm.records import from_dict, to_dict

for _shape in ModelShape.kinds.values():  # so that transformers' AutoModel knows ours; those of others import more
    if _shape.model.startswith("memlm.models."):
        named(_shape.model)


# Weights that a pointer has since it answers marked chunks; 0 is as before.
_SINCE = {f"reader.{name}" for name in ("order", "order_by_hidden", "marked", "marked_in", "marked_pattern")}


def build_model(shape: ModelShape, vocab_size: int, seed: int) -> TextMemory:
    """A freshly initialised model; the same seed gives the same weights and the global generator is untouched."""
    model_class = named(shape.model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model_class(model_class.config_class.of(shape, vocab_size))


def save_model(model: TextMemory, tokenizer: Tokenizer, path: Path) -> None:
    """Write config, safetensors and tokenizer into a folder that appears whole or not at all."""
    with atomic_folder(path, replace=True) as scratch:
        with quiet():
            model.save_pretrained(scratch)
        wrapped = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", bos_token="<|end|>"
        )
        wrapped.save_pretrained(scratch)
        write_sums(scratch)


def load_own_tokenizer(path: Path | str) -> PreTrainedTokenizerFast:
    """The tokenizer beside a saved model as transformers knows it, with its chat template if it has one.

    UsageError where it cannot be read.
    """
    folder = find_model(Path(path))
    with refusing(f"the tokenizer in {folder} cannot be read"), quiet():
        return PreTrainedTokenizerFast.from_pretrained(folder)


def find_model(path: Path) -> Path:
    """The folder of the saved model: `path` itself, `path/model` of a run, that of a curriculum's last stage.

    Raises:
        UsageError: there is none.
    """
    path = whole = Path(path)
    if (path / "curriculum.json").is_file():
        stages = read_object(path / "curriculum.json").get("stages")
        if not isinstance(stages, dict) or not stages or not all(stages):
            raise UsageError(f"{path / 'curriculum.json'} tells no stages: restore it.")
        path = path / list(stages)[-1]
    for folder in (path, path / "model"):
        mend(folder)
        if (folder / "model.safetensors").is_file():
            return folder
    if not whole.exists():
        raise UsageError(f"{path} is not there: name a run, or a folder with a saved model.")
    if path != whole or (path / "checkpoints").is_dir():
        kind = "a run" if path == whole else "a curriculum"
        raise UsageError(f"{whole} is {kind} that has not ended: finish it with memlm train --resume {whole}.")
    raise UsageError(f"{path} holds no model: there is no model.safetensors in it.")


def is_ours(path: Path) -> bool:
    """Whether a run or folder, finished or not, is of ours; a name that is no folder is for models of others."""
    if not path.is_dir():
        return False
    if any((path / name).exists() for name in ("curriculum.json", "checkpoints", "model")):
        return True
    config = path / "config.json"
    return config.is_file() and str(read_object(config).get("model_type")).startswith("memlm-")


def load_model(path: Path | str) -> TextMemory:
    """Load a saved model of ours in evaluation mode, exactly as it was saved.

    Raises:
        UsageError: no model there, a model of another kind, or a damaged file.
    """
    folder = find_model(Path(path))
    told = read_object(folder / "config.json")
    if not str(told.get("model_type")).startswith("memlm-") or not isinstance(told.get("shape"), dict):
        raise UsageError(f"{folder} holds a model of kind {told.get('model_type')!r}; memlm reads its own.")
    with telling_version(folder):
        shape = from_dict(ModelShape, modern_shape(told["shape"], f"{folder}: shape"), f"{folder}: shape")
    model_class, told = named(shape.model), {**told, "shape": to_dict(shape), "model_type": f"memlm-{shape.kind}"}
    with refusing(f"{folder} cannot be loaded, its files are damaged", ": save it anew"), quiet():
        config = model_class.config_class.from_dict(told)
        model, info = model_class.from_pretrained(folder, config=config, output_loading_info=True)
        if absent := _filled(model, info["missing_keys"]) + sorted(map(str, info["mismatched_keys"])):
            raise RuntimeError(f"there is no {absent[0]} of the shape it tells")
    return model.eval()


def _filled(model: TextMemory, missing: Iterable[str]) -> list[str]:
    """Weights that a model saved before has not are what they were; the names of those that it should have."""
    for name in _SINCE.intersection(missing):
        torch.nn.init.zeros_(model.get_parameter(name))
    return sorted({*missing} - _SINCE)
