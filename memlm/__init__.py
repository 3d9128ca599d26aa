"""memlm: measure what an embedding holds, train near-perfect memories, build models that read them.

Names are loaded on first use, so that `import memlm` and `memlm --help` cost nothing:

    >>> import memlm
    >>> model = memlm.Autoencoder.from_pretrained("runs/slots/model")  # doctest: +SKIP
"""

from importlib import import_module

__version__ = "0.1.0"

_EXPORTS = {
    "Autoencoder": "memlm.models.autoencoder",
    "AutoencoderConfig": "memlm.models.autoencoder",
    "AutoencoderShape": "memlm.models.shapes",
    "Bank": "memlm.bank.bank",
    "CausalLM": "memlm.models.causal",
    "CausalLMConfig": "memlm.models.causal",
    "CausalShape": "memlm.models.shapes",
    "Corpus": "memlm.data.corpus",
    "Prepare": "memlm.data.prepare",
    "encode_documents": "memlm.bank.encode",
    "prepare": "memlm.data.prepare",
    "TrainConfig": "memlm.train.config",
    "train": "memlm.train.loop",
    "load_model": "memlm.loading",
}

__all__ = ["__version__", *_EXPORTS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'memlm' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
