"""Tokens become memories, memories become text.

In reading order: `shapes` (what a model is, as data), `readout` (hidden states -> one memory), `bridge` (one
memory -> a decoder's input), `model` (what every saved model of ours shares), `autoencoder`, `causal`,
`loading` (a saved folder -> the model it holds).
"""
