"""A chunk of text -> one memory, and back.

In reading order: `encoder_shape` (what forms a memory, as data), `readout` (hidden states -> one memory), `encoder` (a
chunk -> one memory), `bridge` (one memory -> a vector for every place), `searching` (tokens that do not encode to
a memory, exchanged), `chunk_decoder` (one memory -> its tokens).
"""
