"""`memlm claims` as data. No torch here: a command line that only prints its options reads this."""

from dataclasses import dataclass
from pathlib import Path

from memlm.errors import UsageError
from memlm.measure.config import FAMILIES, Device, ProbeConfig
from memlm.ranges import Checked, Count, Natural, Positive

CLAIMS = tuple(f"C{n}" for n in range(1, 8))
EXPERIMENTS = ("E9", "E10", "E11", "E12")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much is trained, probed and scored."""

    scale: float  # of every run's steps
    probe: ProbeConfig
    chunks: int  # of the part test that are scored
    examples: int  # of every task of access
    cost_seconds: float  # a side of a benchmark is left out where more is expected; much less is needed
    everything: bool  # causal encoders of 64 tokens and of other depths too


FULL = Budget(
    scale=1.0,
    probe=ProbeConfig(families=FAMILIES, train_chunks=(4096, 16_384), seeds=1, steps=250, batch=64),
    chunks=2048,
    examples=256,
    cost_seconds=40.0,
    everything=True,
)
QUICK = Budget(
    scale=0.35,
    probe=ProbeConfig(families=("linear", "linear+slots"), train_chunks=(1024, 4096), seeds=1, steps=100, batch=64),
    chunks=512,
    examples=128,
    cost_seconds=40.0,
    everything=False,
)


@dataclass(frozen=True, kw_only=True)
class Claims(Checked):
    """From nothing to a page of claims: prepare, train, measure, judge. It goes on where it stopped."""

    out: Path = Path("runs/claims")  # everything goes in here; the page is claims.md, the same as data claims.json
    source: str = "gutenberg"  # a named corpus, a file or a folder
    quick: bool = False  # smaller budgets, meant for ten minutes on two cores in the place of an hour
    seeds: Count = 3  # of all models; with fewer than three nothing is decided
    first_seed: Natural = 0  # where they begin: some machines can share the seeds of a claim
    only: str | None = None  # some claims and experiments, as C4,C7,E10; all if not given
    scale: Positive = 1.0  # of every training budget; less only shows that it works
    device: Device = "auto"
    jobs: Natural = 0  # processes at once; 0: one a core
    join: tuple[Path, ...] = ()  # folders of memlm claims: what they tell is not made again, the most seeds decide

    def __post_init__(self) -> None:
        super().__post_init__()
        if wrong := [one for one in self.asked if one not in (*CLAIMS, *EXPERIMENTS)]:
            known = ", ".join((*CLAIMS, *EXPERIMENTS))
            raise UsageError(f"there is no claim or experiment {wrong[0]!r}; there are {known}.")

    @property
    def asked(self) -> tuple[str, ...]:
        """What is to be judged or shown; of a quick one C5, C6 and the experiments only if they are named."""
        if self.only is not None:
            return tuple(one.strip() for one in self.only.split(","))
        return tuple(one for one in CLAIMS if one not in ("C5", "C6")) if self.quick else CLAIMS + EXPERIMENTS

    @property
    def every_seed(self) -> range:
        """The seeds of all models."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def budget(self) -> Budget:
        """Its budget."""
        return QUICK if self.quick else FULL
