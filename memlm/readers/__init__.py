"""Memories -> what a decoder reads.

In reading order: `reader` (what a reader may do), `placing` (where memories and tokens stand and what each sees),
`sequence` (they become sequences), then the readers: `none`, `vector`, `soft`, and `pointer` with `finding` (which
memories it opens).
"""
