"""One self-contained HTML page from run folders. No torch anywhere: a page is made in seconds, on any machine.

In reading order: `runs` (folders -> data), `lineage` (what a run started from, which seeds repeat it), `text` (numbers
and escaping); then what is compared: `choose` (rows of retention), `access` (rows of access to memory, under their
models), `claims` (what they say of the paper's claims), `colours`. Figures are functions to matplotlib: `figures`
(retention), `access_figures`, `training` and `efficiency` (with their tables); `svg` puts one inside a page, `plots`
says which a report has. `tables`, `access_table`, `passages`, `provenance` are HTML; `blocks`, `sections` and
`memory_sections` make sections of it, each a function from a `Report`; `page` writes all of it to disk.
"""
