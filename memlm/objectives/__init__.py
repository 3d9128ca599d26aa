"""A batch of tokens becomes what a model reads and what is scored; nothing else knows what is being trained.

In reading order: `names` (what objectives there are, and how they are combined, as text), `batch` (what an objective
gives), `text` (autoencode, causal, copy, blank copy), `noise` (random tokens), `symbols` (which tokens keys and
values may be), `recall` (key-value pairs), `facts` (facts and quotations of a long text), `combined`, `context` (what
is only remembered), `registry` (a name -> the objective). A new objective is a file and a row in `NAMES`; the test
matrix takes it from there.
"""
