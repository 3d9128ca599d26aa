"""One visible loop.

In reading order: `config` (runs as data), `muon` and `optim` (optimisers and the learning rate's course), `start`
(other models' weights, frozen parts), `tracking` (metrics as JSON lines, the live display), `ranks` and `parallel`
(several processes), `memories` (of frozen encoders, kept on disk), `batches` (made ahead), `checkpoint` (whole or not
there), `held_out` (held-out figures), `loop`, `curriculum` (runs one after the other), `table` (runs side by side); and
beside a frozen model of others `opened` (an adapter for the words that are opened) and `adapt` (a copy head, or both).
"""
