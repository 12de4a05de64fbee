"""The office with loopback allowed for webhooks, and the worker's delivering part over it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

import pytest

from control_plane.logs import create_log
from control_plane.metrics import Metrics, create_metrics
from control_plane.settings import Settings
from control_plane.webhooks.delivery import WebhookDelivery, WebhookPace
from tests.control_plane.account.conftest import Office, office
from tests.control_plane.whole_app import settings_of, variables

__all__ = ["Office", "office"]

AT_ONCE = WebhookPace(lease_s=0.5, timeout_s=5.0, pauses_s=(0.0, 0.0))


@pytest.fixture
def office_settings(database_url: str, clean_redis_url: str, tmp_path: Path) -> Settings:
    """A development service: customers' receivers may be on this machine."""
    environment = variables(database_url=database_url, redis_url=clean_redis_url, triton_url="127.0.0.1:1", spool=tmp_path / "s")
    return settings_of(environment, webhook_allow_loopback="true")


@pytest.fixture
def metrics() -> Metrics:
    """Fresh series."""
    return create_metrics()


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[IO[bytes]]:
    """What the deliveries say, in tmp_path / "log"."""
    with (tmp_path / "log").open("ab", buffering=0) as file:
        yield file


@pytest.fixture
def deliver(office: Office, metrics: Metrics, log_file: IO[bytes]) -> Callable[..., WebhookDelivery]:
    """Builds a worker's delivering part."""

    def build(pace: WebhookPace = AT_ONCE, *, is_loopback_allowed: bool = True) -> WebhookDelivery:
        return WebhookDelivery(
            engine=office.stores.engine,
            pepper=office.stores.pepper,
            is_loopback_allowed=is_loopback_allowed,
            metrics=metrics,
            log=create_log("debug", cast(BinaryIO, log_file)),
            pace=pace,
        )

    return build
