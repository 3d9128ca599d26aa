"""What a path is, whether it is whole, what goes on from there, and what killed writers left.

A file is whole if it has the SHA-256 that was written beside it: of a data set in data.json, of a checkpoint in
state.json, of all else in sha256.json; a memory of a bank, if it has the checksum in its row. What an earlier memlm
wrote may have none: it is parsed only, and that is told. Nothing is changed but by `clean`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memlm.bank.bank import TABLE, Bank
from memlm.bank.opening import open_maker
from memlm.bank.table import damaged
from memlm.data.corpus import FORMAT
from memlm.errors import MemlmError, UsageError, first_line
from memlm.files import SUMS, check_format, followed, read_json, sha256_file, sha256_json
from memlm.leftovers import Leftover, leftovers, remove
from memlm.locks import held, holder, lock_of
from memlm.owners import owner_in
from memlm.train.checkpoint import list_checkpoints
from memlm.train.curriculum import load_curriculum
from memlm.train.loop import load_config
from memlm.train.start import refuse_changed
from memlm.train.tracking import read_metrics


@dataclass(kw_only=True)
class Finding:
    """What was found at a path.

    Attributes:
        path: the path.
        kind: run, curriculum, data set, model, bank, memories, states, measurement, evaluation, tasks, report, folder,
            nothing.
        memlm: the version that wrote it, where it tells.
        problems: sentences; empty: it is whole.
        checked: file -> the file that its SHA-256 was compared with; None: it was parsed only.
        next: what can be done with it, in words.
        parts: what it holds that is something by itself.
        leftovers: files that killed or running writers have there, and whether each may be removed.
        held_by: the process that writes it now.
    """

    path: str
    kind: str = "nothing"
    memlm: str | None = None
    problems: list[str] = field(default_factory=list)
    checked: dict[str, str | None] = field(default_factory=dict)
    next: str = ""
    parts: "list[Finding]" = field(default_factory=list)
    leftovers: list[dict[str, Any]] = field(default_factory=list)
    held_by: str | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong with it and its parts."""
        return not self.problems and all(part.whole for part in self.parts)


def examine(path: Path) -> Finding:
    """Look at a path and read all that it holds.

    Raises:
        UsageError: nothing is there, and no writer has left anything, or it is a link to nothing.
    """
    found, place = _examine(Path(path)), followed(path)
    found.leftovers = [one.told() for one in _left(found)]
    found.held_by = holder(place)
    if not place.exists() and not found.leftovers:
        raise UsageError(f"{path} is not there: name what memlm wrote.")
    return found


def clean(path: Path) -> list[str]:
    """Finish what a killed writer had decided, and remove what may be removed; returns what is gone.

    Raises:
        UsageError: a process writes there.
    """
    left = _left(_examine(Path(path)))
    with held(path):
        for one in left:
            if one.removable:
                remove(one.path)
    return [str(one.path) for one in left if not one.path.exists()]


def _left(found: Finding) -> list[Leftover]:
    """What writers of it and of its parts have not taken away, locks too."""
    place = followed(Path(found.path))
    lock = lock_of(place)
    own = [Leftover(lock, owner_in(lock.read_text()))] if lock.is_file() and not holder(place) else []
    every = [*leftovers(place), *own, *(left for part in found.parts for left in _left(part))]
    return list({left.path: left for left in every}.values())


def _examine(path: Path) -> Finding:
    found = Finding(path=str(path))
    for kind, marker, look in _KINDS:
        if any((path / name).exists() for name in marker):
            found.kind = kind
            try:
                look(path, found)
            except MemlmError as error:
                found.problems.append(str(error))
            except (OSError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                found.problems.append(f"{path} is damaged ({first_line(error)}): restore it or make it anew.")
            return found
    if path.is_file():
        _file(path, found)
    elif path.is_dir():
        found.parts = [_examine(one) for one in sorted(path.iterdir()) if one.is_dir() and not one.name.startswith(".")]
        found.parts = [part for part in found.parts if part.kind != "nothing"]
        found.kind = "folder" if found.parts else "nothing"
    return found


def _data(path: Path, found: Finding) -> None:
    meta = read_json(path / "data.json")
    found.memlm = meta.get("memlm")
    check_format(meta, FORMAT, f"the data set {path}")
    _compare(path, meta["files"], "data.json", found, f"prepare {path} again with --overwrite")
    if sha256_json({name: told["sha256"] for name, told in meta["files"].items()}) != meta["hash"]:
        found.problems.append(f"{path / 'data.json'} is damaged (its hash): prepare {path} again with --overwrite.")
    found.parts = [_examine(one) for one in (*_folders(path / "memories"), *_folders(path / "states", "*.npy"))]
    found.next = f"data of memlm train and measure, {meta['hash'][:12]} (SHA-256)"


def _bank(path: Path, found: Finding) -> None:
    told = read_json(path / "meta.json")
    if "fill" not in told:
        found.kind = "memories"
        _parsed(path, found)
        found.next = "read in the place of encoding"
        return
    found.memlm = told.get("memlm")
    bank = Bank.open(path)
    found.problems += [
        str(damaged(bank.table.path, f"memories of {name!r} have changed")) for name in bank.table.changed()
    ]
    found.checked = {"meta.json": TABLE}
    found.next = f"{len(bank.documents)} documents, {len(bank)} memories with a checksum each, "
    found.next += f"by the encoder {bank.meta.encoder[:12]} (SHA-256); "
    try:
        open_maker(bank, device="cpu")
        found.next += "memlm encode --append adds more"
    except MemlmError as error:
        found.next += f"it can be read and not added to ({str(error).rstrip('.')})"


def _model(path: Path, found: Finding) -> None:
    kind = str(read_json(path / "config.json").get("model_type"))
    ours = kind.startswith("memlm-")
    found.kind = "model" if ours else "model of others"
    _parsed(path, found)
    found.next = f"a model of kind {kind.removeprefix('memlm-')}"


def _run(path: Path, found: Finding) -> None:
    if not (path / "checkpoints").exists() and "objective" not in read_json(path / "config.json"):
        found.kind = "nothing"  # another program's
        return
    config = load_config(path)
    environment = read_json(path / "environment.json") if (path / "environment.json").exists() else {}
    found.memlm = environment.get("memlm")
    checkpoints = list_checkpoints(path / "checkpoints")
    for one in checkpoints:
        state = read_json(one / "state.json")
        check_format(state, 1, f"the checkpoint {one}")
        sums = {name: {"sha256": told} for name, told in state["sha256"].items()}
        _compare(one, sums, "state.json", found, "remove it to resume from the one before", within=path)
    if (path / "model").exists():
        found.parts.append(_examine(path / "model"))
    rows = read_metrics(path / "metrics.jsonl")
    ended = (path / "summary.json").exists()
    if ended:
        _parsed(path, found)
        found.next = f"has ended at step {read_json(path / 'summary.json')['step']}"
    elif checkpoints:
        step = int(checkpoints[-1].name.removeprefix("step-"))
        found.next = f"memlm train --resume {path} goes on from step {step} of {config.steps}"
    else:
        found.next = f"memlm train --resume {path} begins anew: there is no checkpoint ({len(rows)} rows of figures)"
    try:
        refuse_changed(path, config)
    except UsageError as error:
        found.problems.append(str(error))


def _curriculum(path: Path, found: Finding) -> None:
    stages = load_curriculum(path).stages
    found.parts = [_examine(path / name) for name in stages if (path / name).exists()]
    ended = sum(part.next.startswith("has ended") for part in found.parts)
    found.next = f"{ended} of {len(stages)} stages have ended"
    found.next += "" if ended == len(stages) else f"; memlm train --resume {path} goes on"


def _measurement(path: Path, found: Finding) -> None:
    found.parts = [_examine(one) for one in _folders(path / "embeddings")]
    for cost in sorted(path.glob("embeddings/cost-*.json")):
        read_json(cost)
        found.checked[str(cost.relative_to(path))] = None
    if not (path / "results.json").exists():
        found.next = "not finished: the same call of memlm measure goes on, with the embeddings that are kept"
        return
    report = read_json(path / "results.json")
    check_format(report, 1, f"the measurement {path}")
    found.memlm = report["environment"].get("memlm")
    _parsed(path, found)
    models = report["config"]["models"]
    found.next = f"of {', '.join(models)} on data {report['config']['data'][:12]} (SHA-256)"


def _parsed(path: Path, found: Finding) -> None:
    """Compare files with sha256.json; those that it does not tell are parsed."""
    if (path / SUMS).exists():
        sums = read_json(path / SUMS)
        check_format(sums, 1, str(path / SUMS))
        found.memlm = found.memlm or sums.get("memlm")
        _compare(path, sums["files"], SUMS, found, "restore it or make it anew")
    for one in sorted(path.iterdir()):
        if one.is_file() and one.name not in found.checked and one.name != SUMS and not one.name.startswith("."):
            try:
                _PARSERS.get(one.suffix, lambda _: None)(one)
            except MemlmError as error:
                found.problems.append(str(error))
            except Exception as error:  # whatever the library of a format raises
                found.problems.append(f"{one} is damaged ({first_line(error)}): restore it or make it anew.")
            found.checked[one.name] = None


def _file(path: Path, found: Finding) -> None:
    """A page or a table; both are written in one step, so that their end says that they are whole."""
    head, end = path.read_bytes()[:200].lstrip().lower(), path.read_bytes()[-200:].rstrip().lower()
    if head.startswith(b"<!doctype html") and path.suffix.lower() in (".html", ".htm"):
        found.kind, found.checked = "report", {path.name: None}
        found.next = "the same call of memlm report writes it anew"
        if not end.endswith(b"</html>"):
            found.problems.append(f"{path} is cut short: write it anew with memlm report.")


def _compare(
    folder: Path, sums: dict[str, Any], by: str, found: Finding, remedy: str, within: Path | None = None
) -> None:
    for name, told in sums.items():
        file = folder / name
        where = str(file.relative_to(within or folder))
        found.checked[where] = str((folder / by).relative_to(within or folder))
        if not file.is_file():
            found.problems.append(f"{file} is missing: {remedy}.")
        elif sha256_file(file) != told["sha256"]:
            found.problems.append(f"{file} is damaged (its SHA-256 is not that in {by}): {remedy}.")


def _evaluation(path: Path, found: Finding) -> None:
    if (path / "eval.json").exists():
        _parsed(path, found)
    else:
        count = len((path / "answers.jsonl").read_bytes().splitlines())
        found.next = f"has not ended: the same call of memlm eval goes on from {count} batches"


def _folders(path: Path, holding: str = "meta.json") -> list[Path]:
    return sorted({one.parent for one in path.glob(f"[!.]*/{holding}")})


def _safetensors(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:  # refuses a header that does not fit the file's size
        file.keys()


def _npy(path: Path) -> None:
    import numpy as np

    np.load(path, mmap_mode="r", allow_pickle=False)


_PARSERS: dict[str, Callable[[Path], Any]] = {".json": read_json, ".safetensors": _safetensors, ".npy": _npy}
_KINDS: tuple[tuple[str, tuple[str, ...], Callable[[Path, Finding], None]], ...] = (
    ("data set", ("data.json",), _data),
    ("curriculum", ("curriculum.json",), _curriculum),
    ("bank", ("meta.json",), _bank),
    ("measurement", ("results.json", "embeddings", "access.json"), _measurement),
    ("evaluation", ("eval.json", "answers.jsonl"), _evaluation),
    ("tasks", ("tasks.json",), _parsed),
    ("states", ("hidden.npy", "logp.npy"), _parsed),
    ("model", ("model.safetensors",), _model),
    ("run", ("config.json", "checkpoints"), _run),
)
