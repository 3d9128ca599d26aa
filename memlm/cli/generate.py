"""memlm generate MODEL --prompt TEXT: text goes on, with a bank of memories in the place of what came before."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from memlm.errors import UsageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Call:
    """Continue a prompt, token by token, with memories of documents before it.

    The prompt and what follows it go to stdout as they come; the text ends with the document's end, or after
    --max-new-tokens.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]  # a run or saved folder
    prompt: str  # may be empty
    memory: Path | None = None  # a bank made by the model's encoder
    document: str | None = None  # of the bank, by name; all of them, one after the other, if not given
    max_new_tokens: int = 64
    sample: bool = False  # draw tokens; the likeliest ones if not given
    temperature: float | None = None  # of --sample: below 1 likely tokens become likelier
    top_k: int | None = None  # of --sample: draw among so many likeliest tokens
    top_p: float | None = None  # of --sample: draw among the likeliest tokens that are that likely together
    seed: int = 0  # of --sample
    device: Literal["auto", "cpu", "cuda"] = "auto"
    json: bool = False  # print one JSON object


def main(argv: list[str]) -> None:
    """Run the command."""
    call = tyro.cli(Call, args=argv, prog="memlm generate")
    _check(call)
    from memlm.bank.bank import Bank
    from memlm.bank.opening import open_model
    from memlm.models.model import Generative

    bank = None if call.memory is None else Bank.open(call.memory)
    if bank is not None and call.document is not None:
        bank.find(call.document)  # refused before a model is loaded
    model, tokenizer = open_model(call.model, call.device)
    if not isinstance(model, Generative):
        raise UsageError(f"{call.model} does not predict text token by token: name a memory model.")
    memories = None
    if bank is not None:
        if not model.reads_given_memories:
            raise UsageError(f"{call.model} reads no memories: name a memory model, or leave --memory out.")
        bank.check_encoder(model, tokenizer)
        memories = bank.memories(call.document)[None].to(model.device)
    prompt = _tokens(tokenizer, call.prompt).to(model.device)

    streamer: Any = None if call.json else _Printer(tokenizer)
    began = time.perf_counter()
    ids = model.generate(
        prompt,
        memories=memories,
        max_new_tokens=call.max_new_tokens,
        do_sample=call.sample,
        temperature=1.0 if call.temperature is None else call.temperature,
        top_k=call.top_k,
        top_p=call.top_p,
        seed=call.seed,
        streamer=streamer,
    )
    if call.json:
        new = ids[0, prompt.shape[1] :].tolist()
        told = _told(call, bank, tokenizer, prompt.shape[1], new, time.perf_counter() - began)
        print(json.dumps(told, ensure_ascii=False))


def _check(call: Call) -> None:
    """Refuse options that would do nothing."""
    if call.document is not None and call.memory is None:
        raise UsageError("--document names a document of a bank: name the bank with --memory.")
    drawn = {"--temperature": call.temperature, "--top-k": call.top_k, "--top-p": call.top_p}
    if not call.sample and (idle := [name for name, value in drawn.items() if value is not None]):
        raise UsageError(f"{idle[0]} counts only where tokens are drawn: add --sample.")
    try:
        call.prompt.encode()
    except UnicodeEncodeError:
        raise UsageError("the prompt is not UTF-8 text.") from None


def _tokens(tokenizer: "Tokenizer", text: str) -> "Tensor":
    """A prompt's ids [1, N], made as `memlm prepare` makes them; N is 0 for an empty one."""
    import numpy as np
    import torch

    from memlm.tokens.pieces import cut_pieces
    from memlm.tokens.tokenizer import tokenise_pieces

    pieces = list(tokenise_pieces(tokenizer, cut_pieces([text])))
    return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *pieces]).astype(np.int64))[None]


class _Printer:
    """A streamer (put, end) that prints text as soon as its characters are whole."""

    def __init__(self, tokenizer: "Tokenizer"):
        from memlm.tokens.detokenise import TextStream

        self._text = TextStream(tokenizer)

    def put(self, value: "Tensor") -> None:
        """The prompt's ids [1, N], then every new token's [1]."""
        sys.stdout.write(self._text.feed(value.flatten().tolist()))
        sys.stdout.flush()

    def end(self) -> None:
        """No more will come."""
        print(self._text.feed([], last=True))


def _told(
    call: Call, bank: Any, tokenizer: "Tokenizer", prompt_tokens: int, new: list[int], seconds: float
) -> dict[str, Any]:
    from memlm.nn.vocabulary import END
    from memlm.provenance import commit
    from memlm.tokens.detokenise import TextStream

    span = None if bank is None else slice(0, len(bank)) if call.document is None else bank.span(call.document)
    return {
        "model": call.model,
        "commit": commit(),
        "memory": None if call.memory is None else str(call.memory),
        "document": call.document,
        "memories": 0 if span is None else span.stop - span.start,
        "prompt": call.prompt,
        "text": TextStream(tokenizer).feed(new, last=True),
        "ids": new,
        "ended": END in new,  # by the text's own end, not by --max-new-tokens
        "prompt_tokens": prompt_tokens,
        "new_tokens": len(new),
        "sample": call.sample,
        "temperature": call.temperature,
        "top_k": call.top_k,
        "top_p": call.top_p,
        "seed": call.seed if call.sample else None,
        "tokens_per_second": len(new) / seconds,
    }
