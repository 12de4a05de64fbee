"""The fixtures of the keys tests: customers and their keys are made together."""

from tests.control_plane.keys.conftest import Observing, observing, stores, stores_without_redis

__all__ = ["Observing", "observing", "stores", "stores_without_redis"]
