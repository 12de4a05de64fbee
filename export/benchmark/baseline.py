"""The file that a run is compared with: read strictly, and refused where comparing with it would say nothing.

A baseline is any JSON that a benchmark wrote; a figure in it may carry its own tolerance. Judges no figure: `gate` does.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from export.benchmark.failure import BaselineUnusable
from export.benchmark.result import SCHEMA_VERSION, Conditions, Mode, Result, level_name

SUCCESS = "closed_loop_success"
_ADVICE = "record it again with --record-baseline"
Number = Annotated[float, Field(ge=0)]


class _Read(BaseModel):
    """Nothing is converted, and no number is NaN or infinite; fields that only a reader of the whole run needs are left."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class BaselineFigure(_Read):
    """A `result.Figure` as it was."""

    name: Annotated[str, Field(min_length=1)]
    value: Number
    is_higher_better: bool
    is_portable: bool
    tolerance: Annotated[float, Field(ge=0, lt=1)] | None = None
    is_stable: bool = True


class BaselineLevel(_Read):
    """A load that was measured."""

    mode: Literal["concurrency", "request_rate"]
    value: Annotated[float, Field(gt=0)]


class BaselineEpisodes(_Read):
    """Closed-loop runs."""

    episodes: Annotated[int, Field(gt=0)]
    succeeded: Annotated[int, Field(ge=0)]


class BaselineMachine(_Read):
    """Where it was."""

    cpu: str
    cpus: int
    system: str


class Baseline(_Read):
    """What is compared with."""

    schema_version: Annotated[int, Field(ge=SCHEMA_VERSION, le=SCHEMA_VERSION)]
    policy: str
    variant: str
    precision: str
    machine: BaselineMachine
    settings: dict[str, str | int | float]
    levels: Annotated[tuple[BaselineLevel, ...], Field(min_length=1)]
    episodes: BaselineEpisodes | None
    figures: Annotated[tuple[BaselineFigure, ...], Field(min_length=1)]

    def comparable(self, conditions: Conditions) -> tuple[BaselineFigure, ...]:
        """The figures that a run under `conditions` can be judged by. Raises BaselineUnusable: none, or it differs."""
        for what, ours, theirs in self._pairs(conditions):
            if ours != theirs:
                raise BaselineUnusable(f"not comparable: {what} is {_words(ours)}, the baseline's {_words(theirs)}")
        is_same = self.machine.model_dump() == asdict(conditions.machine)
        found = tuple(one for one in self.figures if one.is_portable or is_same)
        if not found:
            raise BaselineUnusable("cannot judge: the baseline holds nothing but absolute numbers of another machine")
        wanted, run = None if self.episodes is None else self.episodes.episodes, conditions.episodes
        if run is not None and wanted is not None and run < wanted and any(one.name == SUCCESS for one in found):
            raise BaselineUnusable(f"not comparable: {run} closed-loop episodes, the baseline has {wanted}")
        return found

    def _pairs(self, conditions: Conditions) -> list[tuple[str, object, object]]:
        names = sorted(self.settings.keys() | conditions.settings.keys())
        return [
            ("policy", conditions.policy, self.policy),
            ("variant", conditions.variant, self.variant),
            ("precision", conditions.precision, self.precision),
            *((name, conditions.settings.get(name), self.settings.get(name)) for name in names),
            ("levels", sorted(conditions.levels), sorted(level_name(Mode(one.mode), one.value) for one in self.levels)),
        ]


def load_baseline(path: Path) -> Baseline:
    """Raises BaselineUnusable."""
    try:
        found = Baseline.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BaselineUnusable(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BaselineUnusable(f"{path}: {place}: {first['msg'].splitlines()[0]}; {_ADVICE}") from None
    names = [one.name for one in found.figures]
    if len(set(names)) < len(names):
        raise BaselineUnusable(f"{path}: figures: a name stands there twice; {_ADVICE}")
    if SUCCESS in names and found.episodes is None:
        raise BaselineUnusable(f"{path}: episodes: a success without them; {_ADVICE}")
    if found.episodes is not None and found.episodes.succeeded > found.episodes.episodes:
        raise BaselineUnusable(f"{path}: episodes.succeeded: more than there were; {_ADVICE}")
    return found


def baseline_json(result: Result, tolerances: dict[str, float]) -> str:
    """A baseline that holds on any machine: the ratios of a run, each with a tolerance of its own where `tolerances` has one."""
    figures = [{**asdict(one), "tolerance": tolerances.get(one.name)} for one in result.figures() if one.is_portable]
    whole = {
        "schema_version": SCHEMA_VERSION,
        "policy": result.policy,
        "variant": result.variant,
        "precision": result.precision,
        "measured_at": result.measured_at,
        "machine": asdict(result.machine),
        "settings": result.settings,
        "levels": [{"mode": level.mode, "value": level.value} for level in result.levels],
        "episodes": None if result.episodes is None else asdict(result.episodes),
        "figures": [{**figure, "value": float(f"{figure['value']:.4g}")} for figure in figures],
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _words(value: object) -> str:
    return "not stated" if value is None else ", ".join(value) if isinstance(value, list) else str(value)
