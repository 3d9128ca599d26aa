"""How much of its input an embedding still holds, and what a model gets from its memories: with an interval and
controls for every number.

Retention, in reading order: `scores` (what is right, chunk by chunk), `bootstrap` (intervals over chunks), `result`
(one row of a report), `encoders` (what can be measured, and its untrained twin), `embeddings` (frozen encoders run
once), `probe` (a fresh decoder), `retention` (the whole measurement).
Access: `tasks` (held-out text becomes questions), `reading` (a text read with its own memories, none, another's),
`freerun` (copies without a teacher), `figures` (places become figures), `access` (the whole measurement).
Attribution: `occluded_texts` (texts of which it is known where memory is needed), `occlusion` (what each token owes to
all memories and to each), `attribution` (the whole measurement). `subject` is what it shares with access.
"""
