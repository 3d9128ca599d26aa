"""The two ways in which memlm says no: the call was wrong, or the work failed."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


class MemlmError(Exception):
    """A failure told in one sentence that says what to do; the command line prints it and nothing else."""

    exit_code = 1
    told = False  # by another process of the same run already


class UsageError(MemlmError):
    """The call was wrong: an unknown name, a file that cannot be what was asked for. Exit code 2."""

    exit_code = 2


class WorkError(MemlmError):
    """The call was right and the work failed: a full disk, a diverged loss, a damaged checkpoint. Exit code 1."""


def first_line(error: Exception) -> str:
    """What an error of another library says first, without a full stop; of a heading, what stands under it too."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[: 2 if lines[0].endswith(":") else 1]) if lines else type(error).__name__
    return said.rstrip(".:")


@contextmanager
def refusing(what: str, then: str = "") -> Iterator[None]:
    """Turn whatever another library raises into `what (its first line)then.`; what is said in our words goes on.

    No list of classes: parsers and models raise what they like (asserts, pickling errors, plain `Exception`).
    """
    try:
        yield
    except (MemlmError, MemoryError):
        raise
    except Exception as error:
        if os.environ.get("MEMLM_DEBUG"):
            raise
        raise UsageError(f"{what} ({first_line(error)}){then}.") from None


def of_the_system(error: Exception) -> MemlmError | None:
    """The sentence about too little memory, or a file that the system refuses; None about any other error."""
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "allocate memory" in str(error):
        return WorkError(f"there is too little memory ({first_line(error)}): take smaller batches or a smaller model.")
    if not isinstance(error, OSError) or error.errno is None:
        return None
    where = "" if error.filename is None else f"{str(error.filename)[:200]} "
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return WorkError(f"{where}cannot be written, the disk is full: free some room and try again.")
    wrong = error.filename is not None and error.errno in _PATHS
    return (UsageError if wrong else WorkError)(f"{where}cannot be used ({error.strerror}): look what is there.")


_PATHS = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EEXIST, errno.ENOTEMPTY, errno.ENXIO, errno.ENODEV),
}

EXTRAS = {  # package -> what of ours installs it; whoever only encodes needs none of them
    "accelerate": "train",
    "datasets": "data",
    "matplotlib": "report",
    "jinja2": "report",
    "lm_eval": "eval",
    "sentence_transformers": "pretrained",
    "gguf": "pretrained",
    "peft": "pretrained",
    "ray": "ray",
    "trackio": "trackers",
    "tensorboard": "trackers",
    "wandb": "trackers",
    "fastapi": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
}


def not_installed(error: ModuleNotFoundError) -> UsageError | None:
    """The sentence about a package that only some of memlm needs; None about any other."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    return UsageError(f"this needs {package}, which is not installed: pip install 'memlm[{EXTRAS[package]}]'.")
