"""The house of the capture tests."""

from tests.control_plane.capture.conftest import House, house

__all__ = ["House", "house"]
