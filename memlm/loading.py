"""A shape -> a fresh model; a saved folder -> the model it holds; a model and its tokenizer -> a saved folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer

from memlm.errors import UsageError
from memlm.files import atomic_folder, read_json
from memlm.huggingface import PreTrainedTokenizerFast, logging
from memlm.models.autoencoder import Autoencoder, AutoencoderConfig
from memlm.models.causal import CausalLM, CausalLMConfig
from memlm.models.memory_model import MemoryModel, MemoryModelConfig
from memlm.models.model import TextMemory
from memlm.models.oracle import Oracle, OracleConfig
from memlm.models.recurrent import RecurrentMemory, RecurrentMemoryConfig
from memlm.models.shapes import AutoencoderShape, CausalShape, MemoryShape, ModelShape, OracleShape, RecurrentShape
from memlm.pretrained.shapes import PretrainedShape, SoftAutoencoderShape

_CLASSES: dict[type, tuple[type, type]] = {
    AutoencoderShape: (AutoencoderConfig, Autoencoder),
    CausalShape: (CausalLMConfig, CausalLM),
    MemoryShape: (MemoryModelConfig, MemoryModel),
    RecurrentShape: (RecurrentMemoryConfig, RecurrentMemory),
    OracleShape: (OracleConfig, Oracle),
}
_BY_TYPE = {config.model_type: model for config, model in _CLASSES.values()}
_OVER_OTHERS: dict[str, tuple[type, str]] = {  # models over those of others, imported when one is asked for
    "memlm-soft": (SoftAutoencoderShape, "memlm.pretrained.autoencoder:SoftAutoencoder"),
    "memlm-pretrained": (PretrainedShape, "memlm.pretrained.memory:PretrainedMemory"),
}


def build_model(shape: ModelShape, vocab_size: int, seed: int) -> TextMemory:
    """A freshly initialised model; the same seed gives the same weights and the global generator is untouched."""
    kind = next((kind for kind, (of, _) in _OVER_OTHERS.items() if of is type(shape)), None)
    config_class, model_class = _classes_over_others(kind) if kind else _CLASSES[type(shape)]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model_class(config_class.of(shape, vocab_size))


def save_model(model: TextMemory, tokenizer: Tokenizer, path: Path) -> None:
    """Write config, safetensors and tokenizer into a folder that appears whole or not at all."""
    with atomic_folder(path, replace=True) as scratch:
        with quiet():
            model.save_pretrained(scratch)
        wrapped = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", bos_token="<|end|>"
        )
        wrapped.save_pretrained(scratch)


def find_model(path: Path) -> Path:
    """The folder of the saved model: `path` itself, `path/model` of a run, that of a curriculum's last stage.

    Raises:
        UsageError: there is none.
    """
    path = whole = Path(path)
    if (path / "curriculum.json").is_file():
        path = path / list(read_json(path / "curriculum.json")["stages"])[-1]
    for folder in (path, path / "model"):
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
    return config.is_file() and str(read_json(config).get("model_type")).startswith("memlm-")


def load_model(path: Path | str) -> TextMemory:
    """Load a saved model of ours in evaluation mode, exactly as it was saved.

    Raises:
        UsageError: no model there, a model of another kind, or a damaged file.
    """
    folder = find_model(Path(path))
    kind = read_json(folder / "config.json").get("model_type")
    if kind not in _BY_TYPE and kind not in _OVER_OTHERS:
        raise UsageError(
            f"{folder} holds a model of kind {kind!r}; memlm reads {', '.join([*_BY_TYPE, *_OVER_OTHERS])}."
        )
    model_class = _classes_over_others(kind)[1] if kind in _OVER_OTHERS else _BY_TYPE[kind]
    try:
        with quiet():
            model, info = model_class.from_pretrained(folder, output_loading_info=True)
        if absent := sorted(info["missing_keys"]) + sorted(map(str, info["mismatched_keys"])):
            raise RuntimeError(f"there is no {absent[0]} of the shape it tells")
        return model.eval()
    except (SafetensorError, RuntimeError, OSError, json.JSONDecodeError) as error:
        why = str(error).strip().splitlines()[0]
        raise UsageError(f"{folder} cannot be loaded, its files are damaged ({why}): save it anew.") from None


def _classes_over_others(kind: str) -> tuple[type, type]:
    module, name = _OVER_OTHERS[kind][1].split(":")
    model_class = getattr(import_module(module), name)
    return model_class.config_class, model_class


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and load reports for files that take milliseconds; what matters is raised."""
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
