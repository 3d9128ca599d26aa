"""From nothing to a page of claims: the runs that the rules need, trained, measured, judged (`memlm claims`).

In reading order: `config` (as data), `runs` (that the rules need, by name), `work` (of one seed), `symbols` (a source
of known memory, E14), `places` (usable bits by place, C7), `experiments` (E9 to E12), `stages` (what is trained and
measured, and for whom), `workers` (by several processes), `command`.
"""
