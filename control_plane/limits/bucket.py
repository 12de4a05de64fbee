"""The per-minute bucket (GCRA) as arithmetic: what `admit.lua` decides with, for showing its state and deciding without Redis.

A bucket drains at a steady rate; each request adds one interval to `drained_at`, the instant at which it will have drained. So a
fresh customer may send `limit` at once and then one every interval. Microseconds throughout. A test holds it equal to the script.
"""

from msgspec import Struct


class Bucket(Struct, frozen=True):
    """A bucket for `limit` requests per `length_us`, seen `level_us` before it will have drained."""

    limit: int
    length_us: int
    level_us: int

    @property
    def interval_us(self) -> int:
        """What one request adds. Rounded up, so that no rounding admits more than the limit."""
        return -(-self.length_us // self.limit)

    @property
    def remaining(self) -> int:
        """How many would be admitted right now."""
        return max(0, self.limit - -(-self.level_us // self.interval_us))

    @property
    def grows_in_us(self) -> int:
        """When `remaining` will be one more; 0 for an empty bucket."""
        return 0 if self.level_us == 0 else max(0, self.level_us - (self.limit - self.remaining - 1) * self.interval_us)

    @property
    def wait_us(self) -> int:
        """How long until one more is admitted."""
        return 0 if self.remaining else self.grows_in_us
