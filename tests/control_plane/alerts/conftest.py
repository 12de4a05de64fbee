"""The office of the operators' tests."""

from tests.control_plane.account.conftest import Office, office, office_settings

__all__ = ["Office", "office", "office_settings"]
