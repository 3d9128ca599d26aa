"""Layers that know nothing of memory.

In reading order: `config` (a stack as data), `layout` (where entries stand and what they see), `cache` (what later
entries need of earlier ones), `stack` (what every stack is, and the registry), `mlp` (the channel
MLP and the stack of nothing else), `mixer` (the masked mixer), `transformer` (the Llama-type stack), `loss`
(cross-entropy over what is scored).

Shape suffixes used throughout memlm: B batch, T tokens of a chunk, D width, H heads, V vocabulary,
M memory, k kernel. `x_BTD` has shape [B, T, D].
"""
