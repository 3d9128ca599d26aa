"""The text that benchmarks run on."""

from memlm import ui
from memlm.bench.form import Options
from memlm.data.corpus import Corpus


def open_corpus(options: Options) -> Corpus:
    """The prepared corpus at `options.data`, made of the named corpus gutenberg if nothing is there.

    Raises:
        UsageError: `options.data` holds something else.
        WorkError: the corpus had to be downloaded and could not be.
    """
    if (options.data / "data.json").is_file():
        return Corpus.open(options.data)
    from memlm.data.prepare import Prepare, prepare

    ui.say(f"{options.data} is not there: preparing gutenberg into it")
    return prepare(Prepare(source="gutenberg", out=options.data))
