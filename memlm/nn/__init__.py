"""Layers that know nothing of memory.

In reading order: `vocabulary` (ids that mean something, embeddings), `config` (a stack as data), `chunks` (the rule
of chunks), `cache` (what later entries need of earlier ones), `layout` (where entries stand and what they see),
`flex` and `attention` (by that rule, in one kernel and by groups of queries), `stack` (what every stack is, and the
registry), `mlp` (the channel MLP and the stack of nothing else), `mixer` (the masked mixer), `transformer` (the
Llama-type stack), `loss` (cross-entropy over what is scored), `rows` (a batch of several processes), `compiled` (what
a GPU gains by it).

Shape suffixes used throughout memlm: B batch, T tokens of a chunk, D width, H heads, V vocabulary,
M memory, k kernel. `x_BTD` has shape [B, T, D].
"""
