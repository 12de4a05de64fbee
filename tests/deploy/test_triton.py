"""The embedded Triton: loopback only, and ready only when its answers are right."""

import os
import signal
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest
import tritonclient.grpc.aio as grpc_client
from tritonclient.utils import InferenceServerException

from deploy.embedded.server import NotReadyError, StartError
from deploy.embedded.triton import Triton, check_answers, installation_in, triton
from tests.conftest import ENVIRONMENT, running

# What would change a running server: a model, where it writes, what it maps.
_CHANGES = (
    "/v2/repository/models/still/load",
    "/v2/repository/index",
    "/v2/logging",
    "/v2/trace/setting",
    "/v2/systemsharedmemory/region/ours/register",
)


def _status(port: int, path: str, method: str = "GET") -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    finally:
        connection.close()


def _kill_python_process_of(plan: Triton) -> None:
    commands = {process.pid: " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])}
    (stub,) = [pid for pid, words in commands.items() if "triton_python_backend_stub" in words and str(plan.links) in words]
    os.kill(stub, signal.SIGKILL)


def _left_in_memory(plan: Triton) -> list[Path]:
    return list(Path("/dev/shm").glob(f"vla_{plan.grpc.number}_*"))  # noqa: S108 -- our own prefix


async def test_ready_means_right_answers_and_not_good_health(still_plan: Triton, tmp_path: Path) -> None:
    with running(triton(still_plan, environment=ENVIRONMENT), log=tmp_path / "log"):
        await check_answers(still_plan)

        empty = still_plan.repository / "still" / "1" / "empty"
        empty.touch()
        with pytest.raises(StartError, match=r"answers 'action' with shape \(1, 0, 7\), its manifest says \(1, 2, 7\)"):
            await check_answers(still_plan)
        empty.unlink()

        _kill_python_process_of(still_plan)
        with pytest.raises(NotReadyError):
            await check_answers(still_plan)
        assert _status(still_plan.http.number, "/v2/health/ready") == 200
    assert not _left_in_memory(still_plan)


async def test_it_is_closed_to_the_network_and_to_new_models(still_plan: Triton, tmp_path: Path) -> None:
    with running(triton(still_plan, environment=ENVIRONMENT), log=tmp_path / "log"):
        ours = {still_plan.grpc.number, still_plan.http.number, still_plan.metrics.number}
        listening = [c.laddr for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port in ours]
        assert {address.port for address in listening} == ours
        assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}

        for path in _CHANGES:
            assert _status(still_plan.http.number, path, "POST") == 403, path
        async with grpc_client.InferenceServerClient(still_plan.url) as client:
            changes = (
                client.update_log_settings({"log_file": str(tmp_path / "elsewhere")}),
                client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}),
                client.register_system_shared_memory("ours", "/vla", 8),
                client.load_model("still"),
            )
            for change in changes:
                with pytest.raises(InferenceServerException, match="restricted"):
                    await change
        assert not (tmp_path / "elsewhere").exists()
        await check_answers(still_plan)


def test_an_environment_with_numpy_2_is_refused_before_it_starts(tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    (site / "pytriton" / "tritonserver").mkdir(parents=True)
    (site / "numpy-2.4.6.dist-info").mkdir()
    with pytest.raises(StartError, match=r"numpy-2\.4\.6 .* needs numpy < 2"):
        installation_in(tmp_path)


def test_an_empty_environment_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="make setup"):
        installation_in(tmp_path)
