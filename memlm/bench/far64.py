"""A memory model of 64 tokens a memory that finds among a million tokens: facts and quotations by how much was read,
beside a table of word pairs and BM25.

(The preset `memory-64`, three seeds; memlm/bench/questions.py.)
"""

from collections.abc import Sequence
from typing import cast

from memlm import presets, ui
from memlm.bench.form import Options, Report
from memlm.bench.questions import COLUMNS, CONTEXTS, TOLD, Side, asked, setting_of
from memlm.cpu import tune_cpu
from memlm.loading import load_model
from memlm.models.model import Generative
from memlm.train.config import Curriculum
from memlm.train.curriculum import train_curriculum

SEEDS = (0, 1, 2)
ASKED = {"found": 0.99, "token_accuracy": 0.97}  # of facts with keys of two, among the most memories


def run(
    options: Options,
    *,
    plan: Curriculum | None = None,
    seeds: Sequence[int] = SEEDS,
    contexts: Sequence[int] = CONTEXTS,
) -> Report:
    """Train what is not trained yet, beside the data, and ask it."""
    tune_cpu()
    corpus, plan = options.corpus(), plan or presets.memory_64()
    if options.seconds is not None:
        plan = plan.each(max_seconds=options.seconds)
    place, side = options.data.with_name(f"{options.data.name}-runs"), Side([], plan.stages[plan.last].context)
    for seed in seeds:
        ui.say(f"seed {seed}")
        train_curriculum(plan.each(data=options.data, seed=seed), out := place / f"memory-64-{seed}", resume=True)
        side.models.append(cast(Generative, load_model(out)).eval())
    rows, T = list(asked("memory-64", side, corpus, contexts)), side.models[0].chunk_tokens
    most = max(row[4] for row in rows)
    ratios = {
        f"facts, {row[2]} among {most:,} memories, {most * T:,} tokens (asked, at least {ASKED[row[2]]})": row[5]
        for row in rows
        if row[0] == "facts" and row[3] == "memory-64" and row[4] == most
    }
    return Report(
        name="far64",
        columns=COLUMNS,
        rows=rows,
        ratios=ratios,
        setting=setting_of("memory-64", side.models[0], seeds, corpus, options.data.name, plan),
        notes=[TOLD],
        told={"seeds": list(seeds)},
    )
