"""One self-contained HTML page from run folders. No torch anywhere: a page is made in seconds, on any machine.

In reading order: `text` (how figures are written: the filters), `runs` and `reading` (folders -> data), `lineage`
(what a run learnt, and which seeds repeat it); then what is compared: `compared` (figures under their models, colours),
`choose` (what is shown first), `ranking`; then claims: `rules` (a table of them), `held` (rows of encoders, seeds
together), `claims_read` (the figures that rules ask for), `claims` (judged), `claims_page`. `views` is what
templates ask of rows; `figures` draws a figure that is described as data, `plots_access` and `plots` describe each;
`templates/` has the page, its style and the leaderboard; `page` and `leaderboard` write them to disk.
"""
