"""One visible loop.

In reading order: `config` (runs as data), `optim` (optimisers and the learning rate's course), `start` (other models'
weights, frozen parts), `memories` (of frozen encoders, kept on disk), `checkpoint` (whole or not there), `evaluate`
(held-out figures), `tracking` (metrics as JSON lines, the live display), `loop`, `curriculum` (runs one after the
other).
"""
