"""The baseline of each chunk by itself."""

from memlm.readers.reader import Reader


class NoMemories(Reader):
    """Reads nothing."""
