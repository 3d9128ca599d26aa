"""How much of its input an embedding still holds, and what a model gets from its memories: with an interval and
controls for every number.

Retention, in reading order: `config` (as data), `intervals`, `scores` (what is right, chunk by chunk, and the figures
of it), `encoders` (what can be measured: a record), `texts` (in the place of a corpus), `theirs` and `brought`
(models of others; functions and vectors), `embeddings` (frozen encoders run once), `controls` (whose memory in the
place of its own), `probe` (a fresh decoder), `linear_probe`, `trained_probe` and `stacked_probe` (its families, by
name in `families`), `retention` (the whole measurement), `prior` (what vectors add to a language model's guesses),
`ceilings` (what needs no probe), `calibration` (of probabilities).
Access: `reading` (a text read with its own memories, none, another's, and written without a teacher), `subject` (the
model in question, its examples, its rows), `tasks` (held-out text becomes questions), `access` (the whole
measurement).
Attribution: `occlusion` (what each token owes to all memories and to each), `attribution` (texts of which it is known
where memory is needed, and the whole measurement).
All of it: `access_table` and `table` (for a terminal), `run`; its public face is `public`, and this room can be
called in its place: `memlm.measure(encoder, ...)`.
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """Python puts an imported room under its name in the package, where the public function of that name belongs."""

    def __call__(self, *encoders: Any, **how: Any) -> Any:
        """What `memlm.measure.public.measure` does."""
        from memlm.measure.public import measure

        return measure(*encoders, **how)


sys.modules[__name__].__class__ = _Callable
