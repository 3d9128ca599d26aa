"""The bank room: memories of texts, in the process or on disk, and what is done with them.

In reading order:

    digest.py    what makes two sets of memories, or two tokenizers, the same
    memories.py  Memories: vectors that know their text, chunk and encoder
    bank.py      Bank.open(BANK): memories of documents, memory-mapped and checked
    chunks.py    documents -> chunks of token ids, in bounded memory
    encode.py    encode_texts: texts -> Memories; encode_documents: documents -> a bank
    recall.py    memories -> token ids, and how many of them are right
    opening.py   a model with its tokenizer, from a run or a saved folder
"""
