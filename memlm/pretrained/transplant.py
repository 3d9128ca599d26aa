"""A language model's own tokenizer with our two special ids: every id moves up by two, `<|pad|>` is 0, `<|end|>` is 1.

All of memlm takes these two for granted (nn/vocabulary.py). Merges and words stay as they are, so that a text is
cut exactly as the language model's own tokenizer cuts it, and its ids are ours less `SHIFT`.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlm.errors import UsageError, refusing
from memlm.files import read_object
from memlm.tokens.tokenizer import END, PAD, check_byte_level, load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from memlm.pretrained.opening import Pretrained

SHIFT = 2  # our id less the language model's own


def transplant(tokenizer: "Tokenizer", name: str) -> "Tokenizer":
    """The tokenizer with every id moved up by two and ours put before them; special tokens in a text are text to it.

    UsageError where the tokenizer of the model `name` is no byte-level BPE.
    """
    from tokenizers import Tokenizer

    told = json.loads(tokenizer.to_str())
    if told["model"]["type"] != "BPE" or '"ByteLevel"' not in json.dumps(told["decoder"]):
        raise UsageError(
            f"the tokenizer of {name} is no byte-level BPE, so it can neither give back every text nor take our two "
            "special tokens: choose a model with one, of the GPT-2, Llama 3, Qwen or SmolLM families, say."
        )
    moved = {_other(token): i + SHIFT for token, i in told["model"]["vocab"].items()}
    told["model"]["vocab"] = {PAD: 0, END: 1, **moved}
    own = [{**token, "id": token["id"] + SHIFT, "content": _other(token["content"])} for token in told["added_tokens"]]
    told["added_tokens"] = [_special(PAD, 0), _special(END, 1), *own]
    told |= {"post_processor": None, "truncation": None, "padding": None}
    with refusing(f"the tokenizer of {name} cannot take our two special tokens"):
        ours = Tokenizer.from_str(json.dumps(told))
    check_byte_level(ours, f"the tokenizer of {name}")
    ours.encode_special_tokens = True
    return ours


def tokenizer_of(opened: "Pretrained") -> "Tokenizer":
    """The transplanted tokenizer of an opened model; UsageError where it has none that can be."""
    own = getattr(opened.tokenizer, "backend_tokenizer", None)
    if own is None:
        raise UsageError(f"the tokenizer of {opened.name} is none of the library tokenizers: choose another model.")
    return transplant(own, opened.name)


def tokenizer_for(name: str) -> "Tokenizer":
    """What `memlm prepare --tokenizer` names; UsageError where there is none, or it cannot be used.

    A tokenizer.json, or a folder with one, is taken as it is, if the folder holds no model but ours; of a causal
    language model (a folder, a known name or one of the hub) the tokenizer is transplanted.
    """
    config = Path(name) / "config.json"
    theirs = config.is_file() and not str(read_object(config).get("model_type")).startswith("memlm-")
    if Path(name).exists() and not theirs:
        return load_tokenizer(Path(name))
    from memlm.pretrained.opening import open_pretrained

    return tokenizer_of(open_pretrained(name))


def _special(content: str, i: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": i, "content": content, **flags, "special": True}


def _other(token: str) -> str:
    """A language model's own token that is called as one of ours gets another name."""
    return f"{token} of the model" if token in (PAD, END) else token
