"""When an answer stops being worth anything. Counted from the first byte of the request; knows no stage and no caller."""

from dataclasses import dataclass
from time import perf_counter

from control_plane.errors import ApiError


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """`ends_s` is in `perf_counter` seconds."""

    ends_s: float

    def remaining_s(self) -> float:
        """What is left; raises `deadline_exceeded` once nothing is."""
        left_s = self.ends_s - perf_counter()
        if left_s <= 0:
            raise ApiError("deadline_exceeded", param="deadline_ms")
        return left_s
