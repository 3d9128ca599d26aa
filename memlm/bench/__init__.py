"""Our code side by side with a peer, in one run, on one machine in one state.

A benchmark is a function `(Options) -> Report` in a file of its own and a row in `BENCHMARKS`; `timing` measures
sides in turn so that a machine that drifts drifts for all of them, `form` writes every report in the same form,
`peak` tells what a step takes beside its time, `serving` what reading a context and going on from it takes,
`questions` asks for what was told among memories, `ruler` as RULER does; `longtext` makes long texts with something to
find in them, `longsides` reads them in every way, and `figure` draws.
"""

BENCHMARKS = {
    "slots": "time to half of the held-out tokens, slots against the paper's mixer",
    "mixer": "training throughput of the masked mixer against plain Conv1d layers",
    "step": "training and encoding at the paper's sizes, as a share of a GPU's matrix rate",
    "encode": "tokens a second into memories, for each kind of encoder",
    "bank": "a million memories opened, appended to, read and searched, against the format of before",
    "kept": "what a memory costs and what comes back of it, by type and number of its numbers, beside other forms",
    "memory": "what a context costs to read, to go on from and to train on, memories against all tokens",
    "far": "facts, quotations and next tokens among thousands of memories, and what such a context costs",
    "far64": "the same of facts and quotations, with memories of 64 tokens, to a million tokens",
    "yardsticks": "key-value retrieval, RULER and MQAR, as others publish on them",
    "attention": "attention of chunks that read memories, by groups and in one kernel, against one mask",
    "parallel": "memory models in parallel, with kept memories and with a cache, against the plain ways",
    "tokenise": "tokenising a stream of text against the tokenizers library's own batch call",
    "probe": "an epoch of a probe over kept embeddings against the same with the model in the loop",
    "smollm2": "a language model of others given memories: copies, plain text and what a context costs",
    "smollm2far": "a language model of others over thousands of tokens that are memories, beside full context and BM25",
    "smollm2lora": "words opened before a text, read by a language model of others as it is and with gated LoRA",
    "smollm2ruler": "RULER's needles and variables asked of a language model of others over memories",
    "startup": "how soon memlm --help answers",
    "frontier": "how many characters go into 256, 512 and 1024 numbers at 99 %, against training time",
}
