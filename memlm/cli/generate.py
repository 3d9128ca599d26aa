"""memlm generate MODEL --prompt TEXT: text goes on, with a bank of memories in the place of what came before."""

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import tyro

from memlm.cli.parsing import parse
from memlm.errors import UsageError
from memlm.ranges import Checked, Count, Natural, Positive, ShareAbove
from memlm.ui import aligned

if TYPE_CHECKING:
    from memlm.api.own import OwnModel
    from memlm.bank.bank import Bank
    from memlm.continuation import Continuation

_SHOWN = 0.05  # of a token's probability, from which on a memory is told


@dataclass(frozen=True, kw_only=True)
class Call(Checked):
    """Continue a prompt, token by token, with memories of documents before it.

    The prompt and what follows it go to stdout as they come; the text ends with the document's end, or after
    --max-new-tokens.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]  # a run, a saved folder, or smollm2
    prompt: str  # may be empty
    memory: Path | None = None  # a bank made by the model's encoder; of any encoder for language models of others
    document: str | None = None  # of the bank, by name; all of them, one after the other, if not given
    max_new_tokens: Count = 64
    sample: bool = False  # draw tokens; the likeliest ones if not given
    temperature: Positive | None = None  # of --sample: below 1 likely tokens become likelier
    top_k: Count | None = None  # of --sample: draw among so many likeliest tokens
    top_p: ShareAbove | None = None  # of --sample: draw among the likeliest tokens that are that likely together
    seed: Natural = 0  # of --sample
    show_memories: bool = False  # tell which memories were read or copied from, of readers that choose
    device: Literal["auto", "cpu", "cuda"] = "auto"
    json: bool = False  # print one JSON object


def main(argv: list[str]) -> None:
    """Run the command."""
    call = parse(Call, argv, "memlm generate")
    _check(call)
    from memlm.api.others import of_others, over_others
    from memlm.api.own import OwnModel
    from memlm.bank.bank import Bank
    from memlm.bank.opening import open_model
    from memlm.provenance import commit

    bank = None if call.memory is None else Bank.open(call.memory)
    if bank is not None and call.document is not None:
        bank.find(call.document)  # refused before a model is loaded
    others = of_others(call.model)
    model = (
        over_others(call.model, call.device) if others else OwnModel(call.model, *open_model(call.model, call.device))
    )
    if call.document is not None and cast(Any, model.model).reads_text:
        raise UsageError(f"{call.model} reads all of a bank: leave --document out, or encode the document by itself.")
    began = time.perf_counter()
    found = model.go_on(
        call.prompt,
        bank if bank is None or call.document is None else bank[call.document],
        None if call.json else _print,
        max_new_tokens=call.max_new_tokens,
        do_sample=call.sample,
        temperature=1.0 if call.temperature is None else call.temperature,
        top_k=call.top_k,
        top_p=call.top_p,
        seed=call.seed,
    )
    read, copied = _shown(found, bank, call, model) if call.show_memories else ([], None)
    if not call.json:
        print()
        if read:
            rows = [[row[key] for key in ("document", "chunk", "passage")] for row in read]
            print(aligned([("read before the text", "chunk", "what it holds"), *rows], words=3))
        if copied is not None:
            rows = [[row[key] for key in ("token", "document", "chunk", "passage", "share")] for row in copied]
            print(aligned([("token", "document", "chunk", "what it holds", "share"), *rows], words=4))
        return
    told = {
        "model": call.model,
        "commit": commit(),
        "memory": None if call.memory is None else str(call.memory),
        "document": call.document,
        "memories": found.memories,
        "prompt": call.prompt,
        "text": found.text,
        "ids": found.ids,
        "ended": found.ended,
        "prompt_tokens": found.prompt_tokens,
        "new_tokens": len(found.ids),
        "sample": call.sample,
        "temperature": call.temperature,
        "top_k": call.top_k,
        "top_p": call.top_p,
        "seed": call.seed if call.sample else None,
        "tokens_per_second": len(found.ids) / (time.perf_counter() - began),
        **({} if copied is None else {"copied": copied}),
        **({"read": read} if read else {}),
    }
    print(json.dumps(told, ensure_ascii=False))


def _shown(
    found: "Continuation", bank: "Bank | None", call: Call, model: "OwnModel"
) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """The memories whose passages a language model of others read before the text; and what was copied, if it copies.

    Raises:
        UsageError: the model's reader does not tell.
    """
    from memlm.api.own import OwnModel
    from memlm.bank.opening import open_maker

    if bank is None or not cast(Any, model.model).reads_text:
        return [], _copied(found, bank, call, model, model)
    teller = OwnModel("", *open_maker(bank))  # what made the memories tells what they hold
    read = _places(bank, teller, model.read_before(call.prompt, bank))
    return read, None if found.copied is None and read else _copied(found, bank, call, model, teller)


def _places(bank: "Bank", teller: "OwnModel", numbers: Iterable[int]) -> list[dict[str, Any]]:
    """Where memories stand, and what they hold."""
    rows = []
    for document, chunk in map(bank.place, numbers):
        told = teller.decode(bank[document].rows(slice(chunk, chunk + 1)))[0]
        rows.append({"document": document, "chunk": str(chunk), "passage": " ".join(told.split())})
    return rows


def _copied(
    found: "Continuation", bank: "Bank | None", call: Call, model: "OwnModel", teller: "OwnModel"
) -> list[dict[str, Any]]:
    """Of each new token the memory that most of it was copied from, if that was a twentieth of its probability.

    Raises:
        UsageError: the model's reader does not tell.
    """
    if found.copied is None:
        if cast(Any, model.model).files_memories:  # it would, and there was no memory
            return []
        raise UsageError(f"{call.model} does not choose among memories: leave --show-memories out.")
    first = 0 if bank is None or call.document is None else bank.span(call.document).start
    most = [(token, *pairs[0]) for token, pairs in zip(found.ids, found.copied, strict=True) if pairs]
    most = [(token, number, share) for token, number, share in most if share >= _SHOWN]
    told = sorted({number for _, number, _ in most if number < found.memories})
    places = dict(zip(told, _places(bank, teller, [first + number for number in told]) if bank else (), strict=True))
    here = {"document": "(this text)", "chunk": "", "passage": ""}
    return [
        {
            "token": model.tokenizer.decode([token]).replace("\n", "\\n"),
            **places.get(number, here),
            "share": f"{share:.0%}",
        }
        for token, number, share in most
    ]


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _check(call: Call) -> None:
    """Refuse options that would do nothing."""
    if call.document is not None and call.memory is None:
        raise UsageError("--document names a document of a bank: name the bank with --memory.")
    drawn = {"--temperature": call.temperature, "--top-k": call.top_k, "--top-p": call.top_p}
    if not call.sample and (idle := [name for name, value in drawn.items() if value is not None]):
        raise UsageError(f"{idle[0]} counts only where tokens are drawn: add --sample.")
