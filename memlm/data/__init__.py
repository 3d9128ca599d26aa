"""The data room: text goes in, packed tokens come out.

In reading order:

    readers.py    text, JSONL and Parquet files -> documents
    hub.py        a Hugging Face data set -> documents
    split.py      which documents are held out
    corpora.py    the corpora that memlm knows by name
    sources.py    open_source: whatever of these was named
    packing.py    token ids and document boundaries into flat files
    corpus.py     Corpus.open(DATA): what was prepared, memory-mapped
    prepare.py    all of the above: a source becomes a folder DATA
    sampler.py    batches of windows, resumable at any step
"""
