"""How much of its input an embedding still holds, and what a model gets from its memories: with an interval and
controls for every number.

Retention, in reading order: `bootstrap` (intervals over chunks), `scores` (what is right, chunk by chunk, and all
figures of it), `encoders` (what can be measured, and its untrained twin), `embeddings` (frozen encoders run once),
`probe` (a fresh decoder), `retention` (the whole measurement).
Access: `reading` (a text read with its own memories, none, another's, and written without a teacher), `subject` (the
model in question, its examples, its rows), `tasks` (held-out text becomes questions), `access` (the whole measurement).
Attribution: `occlusion` (what each token owes to all memories and to each), `attribution` (texts of which it is known
where memory is needed, and the whole measurement).
"""
