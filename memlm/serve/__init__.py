"""Models behind HTTP, in the shape of the OpenAI interface, and a page to play with.

In reading order: `config` (what is served), `metrics`, `worker` (owns the models in one thread and computes together
what waits together), `work` (what it does with them) and `generating` (texts of several requests at once), `wire`
(what comes and goes as JSON), `guard` (stands before every request), `app` (puts them together), `run` (listens).
"""
