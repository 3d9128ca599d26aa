"""Tokens become memories, memories become text.

In reading order: `shapes` (what a model is, as data), `readout` (hidden states -> one memory), `encoder` (a chunk ->
one memory), `bridge` (one memory -> a decoder's input), `model` (what every saved model of ours shares),
`autoencoder`, `causal`; then memory models: `reader` (how a decoder reads a memory), `placing` (where memories and
tokens stand and what each sees), `memory_model`, and the baselines `recurrent` and `oracle`; text that goes on:
`generate` (the loop), `decoding` (what is kept meanwhile), `decoding_chunks` (memories and one chunk), `decoding_flat`
(every token); `loading` (a saved folder -> the model it holds).
"""
