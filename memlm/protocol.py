"""The number of the protocol by which figures come about (docs/protocol.md).

It is raised whenever a figure that is measured anew would differ by more than chance: parts, what is asked, probes,
budgets, intervals. It is part of every result row and of every key that something kept is found by, so that figures of
two protocols are never mixed. tests/measure/test_golden.py pins figures of this one.
"""

PROTOCOL = 3
