"""One self-contained HTML page from run folders. No torch anywhere: a page is made in seconds, on any machine.

In reading order: `runs` (folders -> data), `choose` (which rows are compared), `text` (numbers and escaping),
`figures` (one function per figure), `svg` (a figure inside a page), `plots` (which figures a report has),
`tables`, `passages`, `sections` (each a function from a `Report` to HTML), `page` (all of it on disk).
"""
