"""Models of others: any causal language model of the hub as the decoder of a memory model."""
