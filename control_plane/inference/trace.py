"""What is learnt about one request while it passes: id, route, policy, outcome and where the time went.

The one mutable value of the pipeline, on purpose: the door opens it, every step writes its time, and metrics, log line,
`Server-Timing` and the answer's `timings_ms` are read from it. It holds no image, no instruction and no key.
"""

from dataclasses import dataclass, field
from time import perf_counter
from uuid import UUID

from control_plane.usage.request_id import mint, public_form

UNKNOWN = "unknown"


@dataclass(slots=True, kw_only=True)
class Trace:
    """Times are `perf_counter` seconds; `stages_ms` keeps the order in which the steps ran."""

    request_id: UUID = field(default_factory=mint)
    public_id: str = field(init=False)  # the same as customers see it
    started_s: float = field(default_factory=perf_counter)
    marked_s: float = field(default_factory=perf_counter)
    route: str = "other"
    policy: str = UNKNOWN
    outcome: str = UNKNOWN
    customer_id: UUID | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    is_idempotent: bool = False  # sent with an Idempotency-Key: its usage event may come twice, under one id
    is_recorded: bool = False  # its verdict is in the journal, or may be

    def __post_init__(self) -> None:
        self.public_id = public_form(self.request_id)

    def continue_as(self, request_id: UUID) -> None:
        """This is another attempt at a request that has an id already."""
        self.request_id, self.public_id = request_id, public_form(request_id)

    def mark(self, stage: str) -> None:
        """Everything since the last mark was this stage."""
        now = perf_counter()
        self.stages_ms[stage] = (now - self.marked_s) * 1e3
        self.marked_s = now

    def total_ms(self) -> float:
        """Since the first byte."""
        return (perf_counter() - self.started_s) * 1e3

    def server_timing(self) -> str:
        """The `Server-Timing` header: every stage in milliseconds."""
        return ", ".join([f"{stage};dur={spent_ms:.2f}" for stage, spent_ms in self.stages_ms.items()])
