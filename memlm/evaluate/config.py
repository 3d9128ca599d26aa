"""How an evaluation runs, as data; no torch and no lm-eval here."""

from dataclasses import dataclass
from typing import Literal

from memlm.errors import UsageError
from memlm.ranges import Checked, Count, Natural, Pair

Condition = Literal["own", "none", "random", "base"]
CONDITIONS: tuple[Condition, ...] = ("own", "none", "random", "base")


@dataclass(frozen=True, kw_only=True)
class EvalConfig(Checked):
    """Which examples are asked, and under which conditions."""

    limit: Pair | None = None  # examples of every task, the first ones; all if not given
    num_fewshot: Natural | None = None  # solved examples before the question; the task's own number if not given
    conditions: str = "all"  # that a model has, or some, with commas between: own (always run), none, random, base
    batch: Count | None = None  # texts, or chunks of them, that go through the model at once; what fits if not given
    chat_template: bool = False  # ask in the chat form of the model's tokenizer, solved examples as earlier turns
    trust_tasks: bool = False  # run code that local task files name (!function), metrics and templates too
    log_samples: bool = False  # also write OUT/samples.jsonl: every example with its values, prompts and answers
    seed: Natural = 0  # of random vectors, solved examples, sampling and intervals
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.asked  # noqa: B018  refuses what is impossible

    @property
    def asked(self) -> tuple[Condition, ...]:
        """The conditions by name, `own` among them."""
        names = CONDITIONS if self.conditions == "all" else [name.strip() for name in self.conditions.split(",")]
        if unknown := [name for name in names if name not in CONDITIONS]:
            raise UsageError(f"there is no condition {unknown[0]!r}; there are {', '.join(CONDITIONS)}.")
        return tuple(condition for condition in CONDITIONS if condition == "own" or condition in names)
