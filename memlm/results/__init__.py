"""What run folders hold, read back and judged. No torch and nothing that draws: it is made in seconds, on any machine.

In reading order: `text` (how figures are told), `runs` and `reading` (folders -> data), `lineage` (what a run learnt,
and which seeds repeat it), `compared` (figures under their models, colours), `choose` (which rows are told first),
`ranking` (who holds most); then claims: `rules` (a table of them), `held` (rows of encoders, seeds together),
`claims_read` (the figures that rules ask for), `claims` (judged), `tables` (experiments beside them), `decided` (both,
of a folder). `memlm/report/` makes pages of it.
"""
