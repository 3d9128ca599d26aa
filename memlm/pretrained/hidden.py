"""Texts -> one vector each: hidden states of any layers, read out in any ways, in one pass over the texts.

Texts are sorted by length, so that a batch holds little padding; it stands at the right, masked, so that it changes
nothing. Rows come back in the order of the texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from memlm.errors import UsageError, refusing
from memlm.huggingface import quiet
from memlm.precision import exact
from memlm.pretrained.checks import activation_bytes, refuse_full_memory
from memlm.pretrained.opening import Pretrained
from memlm.ranges import Checked, Count

DEFAULT_READOUT = {"causal": "last", "masked": "mean", "encoder": "mean", "sentence": "pooled"}
BROKEN = "\ufffd"  # what stands for bytes that are no text: a chunk may begin or end within a character
OWN_IDS = 2  # padding and end come before a model's own ids where data are prepared with its tokenizer


@dataclass(frozen=True)
class View:
    """Which hidden states become a vector.

    A readout is `last` (the last token that is no padding), `mean`, `cls` (the first token), `pooled` (a sentence
    model's own embedding), or `at:I,J,...` (these places, side by side; negative ones from the end).
    """

    layer: int  # 0 is the embeddings, L the last layer (after the model's last norm, where it has one)
    readout: str

    @cached_property
    def places(self) -> tuple[int, ...]:
        """The places of `at:`; none of any other readout."""
        if not self.readout.startswith("at:"):
            return ()
        try:
            return tuple(int(place) for place in self.readout.removeprefix("at:").split(","))
        except ValueError:
            raise UsageError(f"{self.readout} names no places: write at:0,7,-1 for example.") from None


def views_of(opened: Pretrained, layers: tuple[int, ...], readouts: tuple[str, ...]) -> list[View]:
    """Every readout of every layer, 0 to L, or -1 to -L - 1 from the last; without any, what its kind is read by.

    UsageError where there is no such layer or readout of this model.
    """
    views, last = [], opened.layers
    for layer in layers or (-1,):
        if not -last - 1 <= layer <= last:
            raise UsageError(f"{opened.name} has layers 0 (embeddings) to {last}, not {layer}.")
        for readout in readouts or (DEFAULT_READOUT[opened.kind],):
            view = View(layer % (last + 1), readout)
            if view.layer != last and not opened.layered:
                raise UsageError(
                    f"{opened.name} does not tell its hidden states by layer (its layer 0 is no embedding): only its "
                    f"last one, {last}, can be measured."
                )
            if readout == "pooled" and (opened.pooling is None or view.layer != last):
                raise UsageError(
                    f"{opened.name} has no pooled embedding of layer {view.layer}: only sentence-transformers models "
                    "have one, of their last layer."
                )
            if not view.places and readout not in ("last", "mean", "cls", "pooled"):
                raise UsageError(f"there is no readout {readout!r}: take last, mean, cls, pooled or at:I,J,...")
            views.append(view)
    return list(dict.fromkeys(views))


@dataclass(frozen=True)
class HiddenReader(Checked):
    """A frozen model of others that reads chunks of a corpus."""

    opened: Pretrained
    views: list[View]  # what is read out of it
    data: Tokenizer | None = None  # of the corpus: its ids become text, which the model's own tokenizer reads
    batch: Count = 32  # texts at once
    # Readers of the same architecture before training, by seed.
    twins: dict[int, "HiddenReader"] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def dims(self) -> list[int]:
        """Numbers of a vector of each view."""
        return [vectors.shape[1] for vectors in self.read([[self.filler] * min(64, self.opened.most_tokens)])]

    @cached_property
    def filler(self) -> int:
        """An id for padding: no position sees it, so that a tokenizer without one needs none."""
        tokenizer = self.opened.tokenizer
        return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if isinstance(i, int)), 0)

    @cached_property
    def shares_ids(self) -> bool:
        """Whether the corpus is in the model's own tokens: then it reads its very ids, shifted, and no text."""
        own: Any = getattr(self.opened.tokenizer, "backend_tokenizer", None)
        data, causal = self.data, self.opened.kind == "causal"
        if own is None or data is None or not causal or data.get_vocab_size() != own.get_vocab_size() + OWN_IDS:
            return False
        added = own.get_added_tokens_decoder()  # may have other names: no text has them
        ids = (i for i in range(own.get_vocab_size()) if i not in added)
        return all(data.id_to_token(i + OWN_IDS) == own.id_to_token(i) for i in ids)

    @cached_property
    def _special(self) -> tuple[list[int], list[int]]:
        """The special ids that the tokenizer puts before a text, and those that it puts after it."""
        told = self.opened.tokenizer("a", return_special_tokens_mask=True)
        ids, text = told["input_ids"], [i for i, special in enumerate(told["special_tokens_mask"]) if not special]
        return (ids[: text[0]], ids[text[-1] + 1 :]) if text else (ids, [])

    def texts(self, tokens_NT: np.ndarray) -> list[str]:
        """Chunks as text; what is no whole character is replaced (`BROKEN`)."""
        return chunk_texts(self.data, tokens_NT)

    def windows(self, texts: Sequence[str]) -> tuple[list[list[int]], np.ndarray]:
        """Texts of any length as the model's own ids, cut where a text is longer than it reads.

        Returns:
            The ids of each window, special tokens included, and int32 [windows, 3]: of which text it is, its number
            there, how many tokens of the text it holds. A text of no tokens has no window.
        """
        with quiet():
            told = self.opened.tokenizer(
                list(texts),
                truncation=True,
                max_length=self.opened.most_tokens,
                return_overflowing_tokens=True,
                return_special_tokens_mask=True,
            )
        if "overflow_to_sample_mapping" not in told:
            raise UsageError(f"{self.opened.name} has a tokenizer that cannot cut long texts: measure it instead.")
        rows, chunks = [], []
        for row, special, text in zip(
            told["input_ids"], told["special_tokens_mask"], told["overflow_to_sample_mapping"], strict=True
        ):
            if held := len(row) - sum(special):
                number = chunks[-1][1] + 1 if chunks and chunks[-1][0] == text else 0
                rows.append(row)
                chunks.append((text, number, held))
        return rows, np.array(chunks, np.int32).reshape(-1, 3)

    def ids(self, tokens_NT: np.ndarray) -> tuple[list[list[int]], int]:
        """The model's own ids of every chunk, special tokens included, and how many chunks had to be cut."""
        tokenizer, most = self.opened.tokenizer, self.opened.most_tokens
        with quiet():
            if self.shares_ids:
                before, after = self._special
                own, room = (tokens_NT - OWN_IDS).clip(min=0).tolist(), most - len(before) - len(after)
                rows, cut = ([[*before, *row[:end], *after] for row in own] for end in (None, room))
            else:
                texts = self.texts(tokens_NT)
                rows = tokenizer(texts)["input_ids"]
                cut = tokenizer(texts, truncation=True, max_length=most)["input_ids"]
        count = sum(len(whole) > len(part) for whole, part in zip(rows, cut, strict=True))
        return [row or [self.filler] for row in cut], count

    def told(self, tokens_NT: np.ndarray) -> dict[str, Any]:
        """What a report should know of these chunks as the model reads them."""
        rows, cut = self.ids(tokens_NT)
        broken = 0 if self.shares_ids else sum(BROKEN in text for text in self.texts(tokens_NT))
        tokens = float(np.mean([len(row) for row in rows]))
        return {"model_tokens": round(tokens, 2), "texts_cut": cut, "texts_broken": broken}

    def encode(self, tokens_BT: Tensor) -> list[Tensor]:
        """Chunks of the corpus' ids [B, T] -> a tensor [B, M] for each view."""
        return self.read(self.ids(tokens_BT.cpu().numpy())[0])

    @torch.inference_mode()
    def read(self, rows: list[list[int]]) -> list[Tensor]:
        """The model's ids of texts -> a tensor [N, M] in fp32 for each view, on the CPU.

        UsageError where a text does not have a place that is read; WorkError where a batch needs too much memory.
        """
        lengths = np.array([len(row) for row in rows])
        shortest, opened = int(lengths.min()), self.opened
        for view in self.views:
            if not all(-shortest <= place < shortest for place in view.places):
                raise UsageError(f"{view.readout} is beyond the shortest text, of {shortest} tokens of the model.")
        size = int(lengths.max()), min(self.batch, len(rows)), opened.precision
        needed = activation_bytes(opened.model.config, *size)
        refuse_full_memory(opened.name, needed, str(opened.model.device), f"activations of {self.batch} texts")
        order = np.argsort(lengths, kind="stable")
        cuts = [] if opened.padded else np.flatnonzero(np.diff(lengths[order])) + 1  # there, texts of one length alone
        parts = [
            self._batch([rows[n] for n in some[i : i + self.batch]])
            for some in np.split(order, cuts)
            for i in range(0, len(some), self.batch)
        ]
        back = torch.from_numpy(np.argsort(order, kind="stable"))
        vectors = [torch.cat(some)[back] for some in zip(*parts, strict=True)]
        if not all(bool(vectors_NM.isfinite().all()) for vectors_NM in vectors):
            raise UsageError(
                f"{opened.name} gives hidden states that are no numbers in {opened.precision}: its weights are "
                "damaged, or need another --precision."
            )
        return vectors

    def _batch(self, rows: list[list[int]]) -> list[Tensor]:
        """One forward pass."""
        model, longest = self.opened.model, max(map(len, rows))
        ids_BN = torch.tensor([row + [self.filler] * (longest - len(row)) for row in rows], device=model.device)
        lengths_B = torch.tensor([len(row) for row in rows], device=model.device)
        mask_BN = (torch.arange(longest, device=model.device) < lengths_B[:, None]).long()
        wanted = {view.layer for view in self.views}
        with refusing(f"{self.opened.name} cannot read {longest} tokens"), exact(model.device):
            if max(wanted) < self.opened.layers and self._blocks is not None:
                out: Any = SimpleNamespace(hidden_states=self._inputs(self._blocks, wanted, ids_BN, mask_BN))
            else:
                within = min(wanted) < self.opened.layers
                out = model(input_ids=ids_BN, attention_mask=mask_BN, output_hidden_states=within)
            return self._read_out(out, ids_BN, mask_BN, lengths_B)

    @cached_property
    def _blocks(self) -> nn.ModuleList | None:
        """Its blocks, if what goes into each is the hidden state of its number: then no more of them run than are read.

        None where that is not so, or not known.
        """
        L, model = self.opened.layers, self.opened.model
        lists = [one for one in model.modules() if isinstance(one, nn.ModuleList) and len(one) == L]
        if len(lists) != 1 or not self.opened.layered:
            return None
        ids_1N = torch.full((1, min(4, self.opened.most_tokens)), self.filler, device=model.device)
        told = model(input_ids=ids_1N, attention_mask=torch.ones_like(ids_1N), output_hidden_states=True).hidden_states
        found = self._inputs(lists[0], set(range(L)), ids_1N, torch.ones_like(ids_1N))
        return lists[0] if len(found) == L and all(torch.equal(told[n], found[n]) for n in range(L)) else None

    def _inputs(self, blocks: nn.ModuleList, wanted: set[int], ids_BN: Tensor, mask_BN: Tensor) -> dict[int, Tensor]:
        """What goes into these blocks, of a pass that ends before the last of them runs."""
        found: dict[int, Tensor] = {}

        def note(layer: int, _: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            found[layer] = given[0] if given else named.get("hidden_states", torch.empty(0))
            if layer == max(wanted):
                raise _Enough

        hooks = [blocks[n].register_forward_pre_hook(partial(note, n), with_kwargs=True) for n in wanted]
        try:
            self.opened.model(input_ids=ids_BN, attention_mask=mask_BN)
        except _Enough:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _read_out(self, out: Any, ids_BN: Tensor, mask_BN: Tensor, lengths_B: Tensor) -> list[Tensor]:
        """The vectors of each view."""
        read = []
        for view in self.views:
            h_BND = self.opened.state(out, view.layer)
            if view.readout == "pooled":
                features = {"token_embeddings": h_BND, "attention_mask": mask_BN, "input_ids": ids_BN}
                for module in self.opened.pooling or ():
                    features = module(features)
                read.append(features["sentence_embedding"].float().cpu())
            else:
                read.append(_readout(view, h_BND.float(), lengths_B, mask_BN).cpu())
        return read


class _Enough(Exception):
    """All that is wanted of a pass is known."""


def chunk_texts(tokenizer: Tokenizer | None, tokens_NT: np.ndarray) -> list[str]:
    """Chunks of a corpus as text; what is no whole character is replaced (`BROKEN`)."""
    assert tokenizer is not None
    return tokenizer.decode_batch(tokens_NT.tolist(), skip_special_tokens=False)


def _readout(view: View, h_BND: Tensor, lengths_B: Tensor, mask_BN: Tensor) -> Tensor:
    """Hidden states [B, N, D] -> [B, M]."""
    if view.readout == "mean":
        return (h_BND * mask_BN[..., None]).sum(1) / lengths_B[:, None]
    every_B = torch.arange(len(h_BND), device=h_BND.device)
    places = {"last": (-1,), "cls": (0,)}.get(view.readout, view.places)
    return torch.cat([h_BND[every_B, place if place >= 0 else lengths_B + place] for place in places], 1)
