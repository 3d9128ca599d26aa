"""Memories -> what a decoder reads.

In reading order: `config` (readers as data), `reader` (what a reader may do), `placing` (where memories and tokens
stand and what each sees), `sequence` (they become sequences), then the readers: `none`, `vector`, and, with `finding`
(which memories it opens) and `filed` (the same by lists), `scores` (what its keys are taught by), `surprise` (how
unexpected words are), `shares` (how much is copied) and `asked` (in training, of what is scored alone), `pointer`.
"""
