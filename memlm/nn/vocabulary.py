"""The token ids with a meaning of their own, and how token vectors start."""

import torch

PAD, END = 0, 1  # the ids of <|pad|> and of <|end|>, which also begins a text, in every tokenizer of ours


def token_embedding(vocab_size: int, width: int) -> torch.nn.Embedding:
    """Token vectors that start small, so that the first updates decide their directions (LOG.md: x2 in steps)."""
    embed = torch.nn.Embedding(vocab_size, width)
    torch.nn.init.normal_(embed.weight, std=0.03)
    return embed
