"""Text <-> token ids.

In reading order: `pieces` (a text in pieces of bounded size), `detokenise` (ids -> text as it comes), `tokenizer`
(trained, loaded, applied).
"""
