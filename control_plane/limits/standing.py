"""Where a customer stands with their limits, and how that is said: in headers on every answer, in the error of a refusal.

`RateLimit-Policy` and `RateLimit` are those of draft-ietf-httpapi-ratelimit-headers-11, where `t` is the time until there is
more; `X-RateLimit-*` are what clients of OpenAI-like APIs read, where the reset is the time until all is there again.
"""

from typing import Literal

from msgspec import Struct

from control_plane.errors import ApiError

_US = 1_000_000
_PLACE_FREE_AFTER_US = _US  # nobody knows when one of the customer's own requests will end; a second is the shortest Retry-After

RefusedBy = Literal["minute", "day", "month", "spend", "concurrency"]


class Window(Struct, frozen=True, kw_only=True):
    """One limit at one moment."""

    name: str
    quota: int
    length_s: int
    remaining: int
    grows_in_us: int  # until there is more than `remaining`
    full_in_us: int  # until all of the quota is there


class Standing(Struct, frozen=True, kw_only=True):
    """All limits at one moment. `day` or `month` is None when it is unlimited, or unknown because Redis is away."""

    minute: Window
    key_minute: Window | None = None  # a lower cap that the key carries itself
    day: Window | None = None
    month: Window | None = None
    spend: Window | None = None  # requests that the spend cap leaves room for

    @property
    def tightest_minute(self) -> Window:
        """The customer's or the key's, whichever has less left."""
        own = self.key_minute
        return own if own is not None and own.remaining <= self.minute.remaining else self.minute

    def headers(self) -> dict[str, str]:
        """For every answer, also a refusal."""
        windows = [window for window in (self.minute, self.key_minute, self.day, self.month, self.spend) if window is not None]
        tightest = self.tightest_minute
        return {
            "RateLimit-Policy": ", ".join([f'"{w.name}";q={w.quota};w={w.length_s}' for w in windows]),
            "RateLimit": ", ".join([f'"{w.name}";r={w.remaining};t={_seconds(w.grows_in_us)}' for w in windows]),
            "X-RateLimit-Limit-Requests": str(tightest.quota),
            "X-RateLimit-Remaining-Requests": str(tightest.remaining),
            "X-RateLimit-Reset-Requests": f"{_seconds(tightest.full_in_us)}s",
        }

    def refusal(self, refused_by: RefusedBy, wait_us: int) -> ApiError:
        """The 429 whose `Retry-After` is when a request will be admitted again."""
        if refused_by == "concurrency":
            wait_us = _PLACE_FREE_AFTER_US
        retry_after_s = max(1, _seconds(wait_us))
        headers = self.headers() | {"Retry-After": str(retry_after_s)}
        return ApiError(f"{refused_by}_limit", retry_after_ms=-(-wait_us // 1000), headers=headers)


def _seconds(us: int) -> int:
    """Whole seconds, rounded up: whoever waits so long has waited long enough."""
    return -(-us // _US)
