"""Many episodes, asked like a customer, and what came of them: counts by task and colour, never a bare percentage.

`episodes` runs them; `Series` is what is printed and kept. It knows no network and draws nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from export.interval import wilson
from tabletop.asking import Asks, Measured
from tabletop.env import TabletopEnv
from tabletop.episode import Manner, Outcome, run
from tabletop.verbs import Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Episodes that have something in common. `low` and `high` bound the share of successes with 95 %."""

    name: str
    episodes: int
    succeeded: int
    wrong: int
    low: float
    high: float
    seconds: float | None  # simulated, mean of the successes

    @property
    def cells(self) -> tuple[str, ...]:
        """As a table shows it."""
        share = f"{self.succeeded}/{self.episodes}"
        bounds = f"{100 * self.low:.1f}–{100 * self.high:.1f} %"
        return self.name, share, bounds, str(self.wrong), "–" if self.seconds is None else f"{self.seconds:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One run of episodes under the same conditions."""

    outcomes: tuple[Outcome, ...]
    measured: Measured

    def row(self, name: str, keep: Callable[[Outcome], bool] = lambda _: True) -> Row:
        """The episodes that `keep` keeps, counted."""
        kept = [one for one in self.outcomes if keep(one)]
        succeeded = [one for one in kept if one.is_success]
        low, high = wilson(len(succeeded), len(kept))
        return Row(
            name=name,
            episodes=len(kept),
            succeeded=len(succeeded),
            wrong=sum(one.is_wrong for one in kept),
            low=round(low, 4),
            high=round(high, 4),
            seconds=round(float(np.mean([one.seconds for one in succeeded])), 2) if succeeded else None,
        )

    def rows(self) -> list[Row]:
        """All, by task, and by task and colour."""
        found = [self.row("all")]
        for verb in Verb:
            if any(one.task.verb is verb for one in self.outcomes):
                found.append(self.row(_named(verb), lambda one, verb=verb: one.task.verb is verb))  # type: ignore[misc]
        names = {(one.task.verb, one.task.colour) for one in self.outcomes}
        for verb, colour in sorted(names, key=lambda name: (list(Verb).index(name[0]), name[1])):
            name = f"{_named(verb)}, {colour}"
            found.append(self.row(name, lambda one, key=(verb, colour): (one.task.verb, one.task.colour) == key))  # type: ignore[misc]
        return found

    def latency(self) -> dict[str, float]:
        """Of the answers, in ms: as the robot saw it and as the service says."""
        if not self.measured.round_trips_ms:
            return {}
        found = {"answers": float(len(self.measured.round_trips_ms))}
        for name, values in (("round_trip", self.measured.round_trips_ms), ("service", self.measured.service_ms)):
            for percentile in (50, 95, 99):
                found[f"{name}_p{percentile}_ms"] = round(float(np.percentile(values, percentile)), 2)
        return found

    def interventions(self) -> dict[str, int]:
        """The guard's decisions other than to let pass, by name."""
        return {name: count for name, count in sorted(self.measured.decisions.items()) if name not in {"pass", "unguarded"}}

    def told(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {
            "rows": [asdict(row) for row in self.rows()],
            "latency_ms": self.latency(),
            "decisions": self.measured.decisions,
            "errors": self.measured.errors,
            "lost": [{"seed": one.seed, "why": one.lost} for one in self.outcomes if one.lost],
            "failed_seeds": [one.seed for one in self.outcomes if not one.is_success],
        }


def episodes(
    env: TabletopEnv, asks: Asks, seeds: Iterable[int], manner: Manner, report: Callable[[Outcome], None] = lambda _: None
) -> Series:
    """Runs one episode per seed. Raises Denied; stops at the first episode that was given up, since the next would be too."""
    found = []
    for seed in seeds:
        found.append(run(env, asks, seed, manner))
        report(found[-1])
        if found[-1].lost:
            break
    return Series(outcomes=tuple(found), measured=asks.measured)


def _named(verb: Verb) -> str:
    return verb.value.replace("_", " ")
