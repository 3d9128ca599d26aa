"""Models behind HTTP, in the shape of the OpenAI interface, and a page to play with.

`worker` owns the models in one thread and computes together what waits together; `work` is what it does with them;
`wire` is what comes and goes as JSON; `guard` stands before every request; `app` puts them together, `run` listens.
"""
