"""The bank room: memories of texts, in the process or on disk, and what is done with them.

In reading order:

    digest.py    what makes two sets of memories, or two tokenizers, the same
    chunks.py    documents -> chunks of token ids, in bounded memory
    kept.py      how memories are kept: types, sizes, corrections
    memories.py  Memories: vectors that know their text, chunk and encoder
    rows.py      a memory as a row, whose it is, its checksum
    table.py     a bank's rows on Lance: versions
    bank.py      Bank.open(BANK): memories of documents, read when they are asked for
    writing.py   rows -> a new bank, or a bank's next version; documents removed, files joined
    decoder.py   what turns a model's memories back into tokens
    keep.py      which size of a memory tells enough, and what its decoder gets wrong
    encode.py    encode_texts: texts -> Memories; encode_documents: documents -> a bank
    opening.py   a model with its tokenizer, from a run or a saved folder
    cluster.py   the same by the workers of a Ray cluster
    convert.py   a bank of memlm 0.2 -> one of today
    filing.py    what a reader's keys are, kept beside a bank
    search.py    the memories nearest to a vector, or by the keys of a reader
    check.py     recall that checks itself: encoded again, and searched where that is another memory
    confidence.py    how likely what came back is right
    recall.py    memories -> token ids and text, and how many of them are right
    passages.py  what a bank recalls, in the tokens of a language model of others
"""
