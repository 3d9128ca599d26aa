"""Models that form memories, read them, or both.

In reading order: `kind` (what a kind of model declares), `shapes` (ours, as data), `model` (what every saved model of
ours shares), `autoencoder`, `causal`, `chunk_model` (what a chunk begins with), `memory_model`, and the baselines
`full_context`, `recurrent` and `oracle`.
"""
