"""When an answer stops being worth anything. Counted from the first byte of the request; knows no stage and no caller."""

import math
from time import perf_counter
from types import TracebackType

from msgspec import Struct

from control_plane.errors import ApiError

_LATE = "deadline_exceeded"


class Deadline(Struct, frozen=True, kw_only=True):
    """`ends_s` is in `perf_counter` seconds. `is_callers` when the caller allowed less time than this service promises."""

    ends_s: float
    param: str | None = None
    is_callers: bool = False

    def remaining_s(self) -> float:
        """What is left; raises `deadline_exceeded` once nothing is."""
        left_s = self.ends_s - perf_counter()
        if left_s <= 0:
            raise ApiError(_LATE, param=self.param, late_by_ms=self.late_by_ms())
        return left_s

    def late_by_ms(self) -> int:
        """How much too late it is by now."""
        return max(0, math.ceil((perf_counter() - self.ends_s) * 1e3))

    def __enter__(self) -> None:
        """Whoever finds inside that it is too late need not know by how much, nor whose deadline it was."""

    def __exit__(
        self, _kind: type[BaseException] | None, failure: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if isinstance(failure, ApiError) and failure.kind.code == _LATE and failure.late_by_ms is None:
            failure.late_by_ms, failure.param = self.late_by_ms(), self.param
