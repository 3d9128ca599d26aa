"""From nothing to a page of claims: the runs that the rules need, trained, measured, judged (`memlm claims`)."""
