"""Memories -> what a decoder reads.

In reading order: `reader` (how a decoder reads a memory), `placing` (where memories and tokens stand and what each
sees).
"""
