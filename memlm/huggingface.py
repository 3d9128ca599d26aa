"""The one door to transformers: whatever is used of it comes through here, so that a new release breaks one file.

Importing this takes seconds; what only prints its options does without.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    LogitsProcessorList,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.generation.streamers import BaseStreamer
from transformers.modeling_outputs import CausalLMOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging
from transformers.utils.generic import ModelOutput

__all__ = [
    "CONFIG_MAPPING",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "AutoConfig",
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoTokenizer",
    "BaseStreamer",
    "Cache",
    "CacheLayerMixin",
    "CausalLMOutput",
    "DynamicCache",
    "LogitsProcessorList",
    "ModelOutput",
    "PreTrainedConfig",
    "PreTrainedModel",
    "PreTrainedTokenizerBase",
    "PreTrainedTokenizerFast",
    "StoppingCriteriaList",
    "TemperatureLogitsWarper",
    "TopKLogitsWarper",
    "TopPLogitsWarper",
    "logging",
    "quiet",
    "register",
]


def register(config: type[PreTrainedConfig], model: type[PreTrainedModel], *, causal: bool = False) -> None:
    """Let `AutoModel` (and `AutoModelForCausalLM`, if `causal`) open saved models of a kind of ours."""
    AutoConfig.register(config.model_type, config)
    AutoModel.register(config, model)
    if causal:
        AutoModelForCausalLM.register(config, model)


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
