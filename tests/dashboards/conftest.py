"""One running service for every question that the dashboards ask."""

from collections.abc import Iterator

import pytest

from benchmarks.stack import running_stack
from tests.conftest import monitoring_program, outside_loop
from tests.dashboards.watched import Watched, gpu_exporter, let_the_reader_in, watch, watch_gpus


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A service with traffic, watched by its own Prometheus, every second."""
    settings = {"VLA_PROMETHEUS_BIN": str(monitoring_program("prometheus")), "VLA_SCRAPE_INTERVAL_S": "1"}
    with running_stack(tmp_path_factory.mktemp("watched") / "state", **settings) as stack, gpu_exporter() as gpu:
        watch_gpus(stack, gpu)
        reader = let_the_reader_in(stack)
        yield outside_loop(lambda: watch(stack, reader))
