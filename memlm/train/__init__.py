"""One visible loop.

In reading order: `config` (a run as data), `optim` (optimisers and the learning rate's course), `checkpoint` (whole
or not there), `evaluate` (held-out figures), `tracking` (metrics as JSON lines, the live display), `loop`.
"""
