"""When an answer stops being worth anything. Counted from the first byte of the request; knows no stage and no caller."""

from dataclasses import dataclass
from time import perf_counter

from control_plane.errors import ApiError


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """`ends_s` is in `perf_counter` seconds. `is_callers` when the caller allowed less time than this service promises."""

    ends_s: float
    param: str | None = None
    is_callers: bool = False

    def remaining_s(self) -> float:
        """What is left; raises `deadline_exceeded` once nothing is."""
        left_s = self.ends_s - perf_counter()
        if left_s <= 0:
            raise ApiError("deadline_exceeded", param=self.param)
        return left_s
