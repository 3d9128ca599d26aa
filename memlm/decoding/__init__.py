"""Text that goes on, token by token.

In reading order: `generate` (the loop), `cached` (what is kept meanwhile), `chunks` (memories and one chunk), `flat`
(every token).
"""
