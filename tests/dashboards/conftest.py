"""One running service for every question that the dashboards ask."""

from collections.abc import Iterator

import pytest

from benchmarks.stack import running_stack
from tests.conftest import outside_loop
from tests.dashboards.watched import Watched, gpu_exporter, let_the_reader_in, prometheus, prometheus_program, watch


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A service with traffic, watched by Prometheus."""
    prometheus_program()  # before anything is started
    folder = tmp_path_factory.mktemp("watched")
    with running_stack(folder / "state", VLA_GPU_COST_CENTS_PER_H="300") as stack, gpu_exporter() as gpu:
        targets = {
            "api": f"{stack.host}:{stack.port}",
            "triton": f"127.0.0.1:{stack.environment['VLA_TRITON_METRICS_PORT']}",
            "gpu": gpu,
        }
        with prometheus(folder, targets) as url:
            reader = let_the_reader_in(stack)
            yield outside_loop(lambda: watch(stack, url, reader))
