"""One self-contained HTML page, a leaderboard and a page of claims from what `memlm/results/` read. No torch anywhere.

In reading order: `templating` (the filters of `templates/`, which has the pages and their style), `views` (what
templates ask of rows); `figures` draws a figure that is described as data, `plots_access`
and `plots` describe each; `page`, `leaderboard` and `claims_page` write to disk.
"""
