"""Text that goes on for several requests at once: one batch, each row with its own draws, length and end.

A row's tokens are those that `Model.generate` gives of its request alone (up to rounding in the last place of a float):
it draws from a generator of its own seed, and nothing that another row does moves it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from memlm.bank.bank import Bank
from memlm.bank.memories import Memories
from memlm.decoding.generate import warpers
from memlm.errors import UsageError
from memlm.huggingface import BaseStreamer
from memlm.nn.vocabulary import END
from memlm.precision import computing
from memlm.readers.placing import hiding
from memlm.serve.work import Served
from memlm.serve.worker import Stopped
from memlm.tokens.detokenise import TextStream

if TYPE_CHECKING:
    from memlm.api.own import OwnModel
    from memlm.models.model import Generative

HIDDEN = 64  # memories that are hidden one after the other, to see what a text owes to each


@dataclass(frozen=True, eq=False)
class Generate:
    """What a request of /v1/completions asks.

    Attributes:
        prompt: the tokens of a text.
        before: memories that are read, as many in all rows of a batch; a bank.
        most: tokens that are added at most.
        temperature, top_k, top_p: as of `Model.generate`; temperature 0 takes the likeliest token.
        seed: of the draws.
        stop: texts before which it ends.
        show: whether to tell what each token owes to which memory.
        tell: is told "" when the request was found right, then what follows the prompt, as it comes.
        gone: whether nobody waits for it any more.
        between: is called between two tokens.
    """

    prompt: list[int]
    before: Memories | Bank | None
    most: int
    temperature: float
    top_k: int | None
    top_p: float
    seed: int
    stop: tuple[str, ...]
    show: bool
    tell: Callable[[str], Any]
    gone: Callable[[], bool]
    between: Callable[[], None]


@dataclass(eq=False)
class _Row:
    """One request while its text is generated; characters that may begin what it stops at are held back."""

    asked: Generate
    stream: TextStream
    generator: torch.Generator
    ids: list[int] = field(default_factory=list)
    text: str = ""
    sent: int = 0
    ended: str = ""  # why: stop, length, gone

    def put(self, token: int) -> None:
        """The next token."""
        if self.ended:
            return
        self.ids.append(token)
        last = token == END or len(self.ids) == self.asked.most
        self.text += self.stream.feed([token], last=last)
        at = min((at for word in self.asked.stop if (at := self.text.find(word)) >= 0), default=-1)
        if at >= 0:
            self.text = self.text[:at]
        if self.asked.gone():
            self.ended = "gone"
        elif at >= 0 or last:
            self.ended = "stop" if at >= 0 or token == END else "length"
        hold = 0 if self.ended else max(map(len, self.asked.stop), default=1) - 1
        if self.sent < len(self.text) - hold:
            self.asked.tell(self.text[self.sent : len(self.text) - hold])
            self.sent = len(self.text) - hold

    def drawn(self, scores_1V: Tensor) -> Tensor:
        """Scores of which the token that was drawn is the likeliest."""
        asked = self.asked
        if not asked.temperature or self.ended:
            return scores_1V
        scores_1V = warpers(asked.temperature, asked.top_k, asked.top_p)(cast(Any, None), cast(Any, scores_1V))
        token = torch.multinomial(scores_1V.softmax(-1), 1, generator=self.generator)
        return torch.full_like(scores_1V, -torch.inf).scatter(1, token, 0.0)


class _Rows(BaseStreamer):
    """What the loop of `generate` asks about a batch: a streamer, a processor of scores, and a criterion of ends."""

    def __init__(self, rows: list[_Row]):
        self.rows, self.began = rows, False

    def put(self, value: Tensor) -> None:
        """The prompts, then every row's next token."""
        for row, token in zip(self.rows, value.tolist(), strict=True):
            if self.began:
                row.put(token)
            else:
                row.asked.tell("")
        if self.began:
            self.rows[0].asked.between()
        self.began = True

    def end(self) -> None:
        """No more will come."""

    def draw(self, _: Tensor, scores_BV: Tensor) -> Tensor:
        """Of each row."""
        return torch.cat([row.drawn(scores_BV[n : n + 1]) for n, row in enumerate(self.rows)])

    def ended(self, ids_BL: Tensor, _: Any) -> Tensor:
        """Which rows go on no more."""
        return torch.tensor([bool(row.ended) for row in self.rows], device=ids_BL.device)


def generate(served: Served, asked: list[Generate]) -> list[dict[str, Any] | Exception]:
    """The texts of requests that have equally many memories before them, or why there is none of one."""
    own = served.own
    if own is None:
        raise UsageError(f"{served.name} is served to encode; what memlm adapt makes of it generates.")
    given = [own.reading(one.before) for one in asked]
    prompts = [one.prompt for one in asked]
    device, longest = own.model.device, max(map(len, prompts))
    rows = _Rows([_Row(one, served.stream.another(), torch.Generator(device).manual_seed(one.seed)) for one in asked])
    ids_BN = torch.tensor([[0] * (longest - len(ids)) + ids for ids in prompts], dtype=torch.long, device=device)
    mask_BN = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
    shared: dict[str, Any] = given[0]  # an index, or no memories
    if "memories" in shared:
        shared = {"memories": torch.cat([one["memories"] for one in given])}
    opened: list[Any] = []
    try:
        with computing(device):
            cast("Generative", own.model).generate(
                ids_BN,
                attention_mask=mask_BN,
                max_new_tokens=max(one.most for one in asked),
                streamer=rows,
                logits_processor=[rows.draw],
                stopping_criteria=[rows.ended],
                opened=opened,
                **shared,
            )
    except Exception as error:
        if rows.began:  # what was told cannot be told again; before that the worker tries each alone
            return [error for _ in asked]
        raise
    steps = [[step and tuple(one[n : n + 1] for one in step) for step in opened] for n in range(len(asked))]
    return [_told(served, *one) for one in zip(rows.rows, steps, strict=True)]


def _told(served: Served, row: _Row, opened: list[Any]) -> dict[str, Any] | Exception:
    if row.ended == "gone":
        return Stopped()
    prompt = row.asked.prompt
    told = {"text": row.text, "finish": row.ended, "tokens": len(row.ids), "prompt_tokens": len(prompt), "owed": None}
    if row.asked.show:
        copied = cast("OwnModel", served.own).copied(opened[: len(row.ids)], row.asked.before)
        owed = _owed(served, prompt, row.ids, row.asked.before) if copied is None else copied
        if owed is not None:
            rows = zip(served.pieces(row.ids), owed, strict=True)
            told["owed"] = [{"token": piece, "memories": [[n, round(p, 4)] for n, p in of]} for piece, of in rows]
            told["by"] = "hidden" if copied is None else "copied"
    return told


@torch.inference_mode()
def _owed(
    served: Served, prompt: list[int], new: list[int], before: Memories | Bank | None
) -> list[list[tuple[int, float]]] | None:
    """Of each new token, by how much its probability falls where one memory is hidden, of readers that mix them all.

    The text is read again once for each memory, as `measure.occlusion` does; None where they are none, or too many.
    """
    own = served.own
    assert own is not None
    if not isinstance(before, Memories) or not 0 < len(before) <= HIDDEN or not hasattr(own.model, "placing"):
        return None
    model, ids = cast(Any, own.model), torch.tensor([prompt + new], device=own.model.device)
    memories_1KM = torch.from_numpy(before.vectors)[None].to(model.device)

    def likely() -> torch.Tensor:
        logp_NV = model(ids, memories=memories_1KM).logits[0].float().log_softmax(-1)
        return logp_NV.gather(1, ids[0, :, None])[-len(new) :, 0].exp()

    with computing(model.device):
        whole_n, without = likely(), []
        for number in range(len(before)):
            with hiding(model, number):
                without.append(likely())
    falls_nK = (whole_n[:, None] - torch.stack(without, 1)).clamp(min=0).tolist()
    return [sorted(((k, p) for k, p in enumerate(row) if p >= 1e-3), key=lambda one: -one[1]) for row in falls_nK]
