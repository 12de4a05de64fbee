"""What came of building a dataset, as a value: apart from the job, so that the command line need not load PyAV."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True, kw_only=True)
class Built:
    """Episodes and frames by split; `skipped` by reason. `is_rebuilt`: a member had been deleted, so all was written anew."""

    out: Path
    episodes: Counter[str] = field(default_factory=Counter)
    frames: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    is_rebuilt: bool = False
