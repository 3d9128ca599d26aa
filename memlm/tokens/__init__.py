"""Text <-> token ids.

In reading order: `pieces` (a text in pieces of bounded size), `tokenizer` (trained, loaded, applied), `detokenise` (ids
-> text as it comes).
"""
