"""One self-contained HTML page from run folders. No torch anywhere: a page is made in seconds, on any machine.

In reading order: `runs` (folders -> data), `lineage` (what a run started from, which seeds repeat it), `text` (numbers
and escaping); then what is compared: `choose` (rows of retention), `access` (rows of access to memory, under their
models), `attributed` (rows of attribution), `ranking` (rows that can be compared, in order), `claims` (what they say of
the paper's claims), `colours`. Figures are functions to matplotlib: `figures` (retention), `access_figures`,
`attribution_figure`, `training` and `efficiency` (with their tables); `svg` puts one inside a page, `plots` says which
a report has. `tables`, `access_table`, `ranking_table`, `attribution`, `passages`, `provenance` are HTML, `leaderboard`
is Markdown; `blocks`, `sections` and `memory_sections` make sections of it, each a function from a `Report`; `page`
writes all of it to disk.
"""
