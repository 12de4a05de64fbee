"""What these tests share with those of metering."""

from tests.control_plane.usage.conftest import Lines, customer_id, database, lines, log, metrics, redis

__all__ = ["Lines", "customer_id", "database", "lines", "log", "metrics", "redis"]
