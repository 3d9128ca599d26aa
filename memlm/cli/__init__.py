"""The command line: one small module per command, imported only when it is called; `parsing` serves them all."""

import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module

from memlm import __version__
from memlm.errors import MemlmError, UsageError, not_installed, of_the_system

if "RANK" in os.environ:  # one of several processes: torch would warn of what is no fault of the user's
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

COMMANDS = {
    "demo": "the whole story on a small real corpus: prepare, train, measure, report",
    "claims": "the paper's claims, each judged by its rule: prepare, train, measure, decide",
    "prepare": "a file, folder, Hugging Face data set or named corpus -> tokenizer and packed tokens",
    "train": "train an autoencoder or a causal language model from a preset, resumable",
    "adapt": "a copy head for a language model of others: it finds and copies from remembered text; an adapter",
    "measure": "how much of its input an embedding still holds: of a model, or of vectors from anywhere",
    "encode": "documents -> a bank of memories on disk",
    "bank": "what a bank holds, what is near to a text; documents removed, old banks converted",
    "recall": "a bank of memories -> the text that they hold",
    "generate": "text that goes on from a prompt, with a bank of memories before it",
    "serve": "models behind HTTP, in the shape of the OpenAI interface, and a page to play with",
    "tasks": "held-out text -> tasks for eval, without a network",
    "eval": "tasks of lm-eval, with memories, without and with random ones, and how many were read",
    "export": "a model as a folder to ship: weights, config, tokenizer, a model card, one hash",
    "report": "one self-contained HTML page with tables and figures from runs",
    "leaderboard": "measured models ranked by what their embeddings hold, as Markdown",
    "doctor": "what a folder is, whether it is whole, what killed runs left; without one, what is installed here",
    "bench": "our code side by side with a peer, in one run",
    "completion": "a script for bash, zsh or fish that completes all of this",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 the work failed, 2 the call was wrong."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):  # what the terminal's encoding lacks is written out as \\u6771
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"memlm {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        print(f"memlm: there is no command {argv[0]!r}; there are {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    try:
        if argv[0] != "train" and "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
            raise UsageError(f"memlm {argv[0]} runs in one process: start it without torchrun.")
        with _ended_as_by_hand():
            _run(*argv)
        return 0
    except _Ended as end:
        print("memlm: stopped.", file=sys.stderr)
        return 128 + end.args[0]
    except KeyboardInterrupt:
        print("memlm: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our stdout went away: nothing is wrong with the work
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        known = error if isinstance(error, MemlmError) else of_the_system(error)
        if known is None:
            return _unexpected(error)
        if not known.told:
            print(f"memlm: {known}", file=sys.stderr)
        return known.exit_code


class _Ended(KeyboardInterrupt):
    """The process was asked to end, by the signal of this number."""


@contextmanager
def _ended_as_by_hand() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that nothing half-written stays."""

    def end(number: int, _: object) -> None:
        raise _Ended(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]  # as nohup has it
    before = {number: signal.signal(number, end) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(command: str, *argv: str) -> None:
    try:
        import_module(f"memlm.cli.{command}").main([*argv])
    except ModuleNotFoundError as error:
        raise not_installed(error) or error from None


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
    return (
        "usage: memlm COMMAND [OPTIONS]\n\n"
        "memory language models: measure, train and use memories of text\n\n"
        f"{rows}\n\nmemlm COMMAND --help tells a command's options, memlm --version the version."
    )


def _unexpected(error: Exception) -> int:
    """A defect of ours: one sentence, and the traceback in a file for the report of it."""
    if os.environ.get("MEMLM_DEBUG"):
        raise error
    with tempfile.NamedTemporaryFile("w", prefix="memlm-", suffix=".log", delete=False, encoding="utf-8") as log:
        traceback.print_exception(error, file=log)
    first = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
    print(f"memlm: an error that should not happen ({what}); details are in {log.name}.", file=sys.stderr)
    return 1
