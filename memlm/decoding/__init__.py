"""Text that goes on, token by token.

In reading order: `cached` (what is kept meanwhile), of it `chunks` (memories and one chunk) and `flat` (every token),
and `generate` (the loop).
"""
