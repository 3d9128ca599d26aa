"""Models that form memories, read them, or both.

In reading order: `shapes` (what a model is, as data), `model` (what every saved model of ours shares), `autoencoder`,
`causal`, `memory_model`, and the baselines `recurrent` and `oracle`.
"""
