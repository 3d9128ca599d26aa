"""How much of its input an embedding still holds, with an interval and controls for every number.

In reading order: `scores` (what is right, chunk by chunk), `bootstrap` (intervals over chunks), `result` (one row of
a report), `encoders` (what can be measured, and its untrained twin), `embeddings` (frozen encoders run once),
`probe` (a fresh decoder), `retention` (the whole measurement).
"""
