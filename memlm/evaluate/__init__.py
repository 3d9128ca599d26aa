"""A model through lm-eval's tasks, with its memories, without, and with random vectors in their place.

In reading order: `config` (as data), `local` (held-out text -> tasks), `loading` (names and files -> lm-eval's
tasks), `memories` (of many texts, or random), `answers` (kept on disk), `scoring` (how likely ends of texts are),
`harness` (a model as lm-eval's `LM`), `figures` (rows with intervals), `run` (the whole evaluation), `table`.
"""
