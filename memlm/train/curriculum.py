"""Runs one after the other, each of which can start from an earlier one (paper, Curriculum).

OUT/curriculum.json      every stage, resolved: `memlm train --config OUT/curriculum.json --out NEW` runs it again
OUT/<stage>/             an ordinary run (train/loop.py)

All that makes a run resumable makes this so: ended stages are not run again, a stage that was stopped goes on exactly.
"""

from pathlib import Path
from typing import Any

import torch

from memlm import ui
from memlm.data.corpus import Corpus
from memlm.errors import UsageError
from memlm.files import holds_files, read_json, write_json
from memlm.legacy import modern_config
from memlm.loading import build_model, find_model
from memlm.records import from_dict, to_dict
from memlm.train.config import Curriculum
from memlm.train.loop import train
from memlm.train.ranks import ALONE, start
from memlm.train.start import find_start, fitting, freeze
from memlm.train.tracking import refuse_trackers


def train_curriculum(curriculum: Curriculum, out: Path, *, resume: bool = False) -> dict[str, Any]:
    """Train every stage of `curriculum` into a folder of its name in `out`.

    Args:
        curriculum: the stages.
        out: the folder.
        resume: go on, to the same weights as without a stop, if `out` was begun with this very curriculum.

    Returns:
        the last stage's summary, and those of all stages by name in `stages`.

    Raises:
        UsageError: `out` holds files and `resume` is false; it was begun with another curriculum, or another process
            trains there; a stage cannot be run. What can be known beforehand is told before the first stage begins.
        WorkError: as `train`.
    """
    out = Path(out)
    ranks = ALONE
    for config in curriculum.stages.values():
        ranks = start(config, out)[1]
    with ranks.watched(), ranks.held(out):
        ranks.agreed(lambda: _begin(curriculum, out, resume))
        summaries = {}
        for number, (name, config) in enumerate(curriculum.stages.items(), 1):
            ui.say(f"{number}/{len(curriculum.stages)} {name}: {config.objective}, {config.steps} steps")
            summaries[name] = train(config, out / name, resume=True)
    return {**summaries[curriculum.last], "stages": summaries}


def _begin(curriculum: Curriculum, out: Path, resume: bool) -> None:
    if holds_files(out):
        if not resume:
            raise UsageError(f"{out} exists already: go on with it by --resume {out}, or name another place.")
        _refuse_another(load_curriculum(out), curriculum, out)
    _check(curriculum, out)
    write_json(out / "curriculum.json", to_dict(curriculum))


def load_curriculum(folder: Path) -> Curriculum:
    """The resolved curriculum of a folder.

    Raises:
        UsageError: `folder` holds none, or one that this version does not understand.
    """
    told = modern_config(read_json(Path(folder) / "curriculum.json"), "curriculum")
    return from_dict(Curriculum, told, "curriculum")


def _refuse_another(begun: Curriculum, asked: Curriculum, out: Path) -> None:
    """Stages in another order are another curriculum too."""
    if list(begun.stages.items()) == list(asked.stages.items()):
        return
    if list(begun.stages) != list(asked.stages):
        what = f"it has the stages {', '.join(begun.stages)}"
    else:
        fields = to_dict(next(iter(begun.stages.values())))
        pairs = [(s, f) for s in begun.stages for f in fields]
        differing = [f"{s}.{f}" for s, f in pairs if getattr(begun.stages[s], f) != getattr(asked.stages[s], f)]
        what = f"see {', '.join(differing)}"
    raise UsageError(f"{out} was begun with another curriculum ({what}): name another place.")


def _check(curriculum: Curriculum, out: Path) -> None:
    """Refuse what a later stage would refuse after hours: its data, what it freezes, what it starts from."""
    for name, config in curriculum.stages.items():
        refuse_trackers(config.trackers)
        corpus = Corpus.open(config.data)
        with torch.device("meta"):  # names and sizes, no weights
            model = build_model(config.model, corpus.vocab_size, config.seed)
        freeze(model, config.frozen, fresh_embedding=config.fresh_embedding)
        if config.start and str(config.start) not in curriculum.stages:
            find_model(find_start(config.start, out / name))
        if str(config.start) in curriculum.stages:
            fitting(config.model, curriculum.stages[str(config.start)].model, f"the stage {config.start}, for {name},")
