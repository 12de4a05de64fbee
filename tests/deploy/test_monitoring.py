"""Prometheus and Alertmanager in the one-command service: found or done without, and an alert that really arrives somewhere."""

import json
import re
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rich.console import Console

from benchmarks.stack import Stack, free_block, running_stack, vlaapi
from control_plane.usage.stream import FIELD, STREAM
from deploy.embedded.from_debian import CannotFetchError, fetch
from deploy.embedded.monitoring import PORTS, Monitoring, missing, monitoring, optional_program
from deploy.embedded.server import Port, StartError
from deploy.embedded.watch import watch
from tests.conftest import ENVIRONMENT, monitoring_program, running
from tests.control_plane.eventually import until


@pytest.fixture
def plan(tmp_path: Path) -> Monitoring:
    """Both programs, on ports of this test's own."""
    port = Port(number=free_block(PORTS), setting="VLA_PROMETHEUS_PORT")
    return Monitoring(
        prometheus=monitoring_program("prometheus"),
        alertmanager=monitoring_program("alertmanager"),
        folder=tmp_path,
        port=port,
        targets={"prometheus": (f"127.0.0.1:{port.number}",), "api": ("127.0.0.1:8080",)},
        docs_url="http://docs.example",
        scrape_interval_s=1,
    )


def a_program(folder: Path, says: str) -> Path:
    """A program that only says its version."""
    path = folder / "prometheus"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_what_is_missing_is_said_and_left_out(plan: Monitoring, tmp_path: Path) -> None:
    assert missing(plan) == ()
    without = Monitoring(prometheus=None, alertmanager=None, folder=tmp_path, port=plan.port, targets={}, docs_url="")
    assert [line.partition(" here")[0] for line in missing(without)] == ["no Prometheus", "no Alertmanager"]
    assert monitoring(without, environment=ENVIRONMENT) == ()


def test_a_door_that_gives_its_metrics_to_nobody_is_said(plan: Monitoring) -> None:
    assert "VLA_LISTEN_ADDRESS=0.0.0.0" in missing(replace(plan, targets={}))[0]


def test_a_prometheus_too_old_for_the_rules_is_not_started(plan: Monitoring, tmp_path: Path) -> None:
    old = Monitoring(
        prometheus=a_program(tmp_path, "prometheus, version 2.31.2"),
        alertmanager=None,
        folder=tmp_path,
        port=plan.port,
        targets={},
        docs_url="",
    )
    assert "is 2.31; the rules need 2.42 or newer" in missing(old)[0]
    assert monitoring(old, environment=ENVIRONMENT) == ()


def test_a_setting_that_names_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"VLA_PROMETHEUS_BIN=.*: there is nothing at that path"):
        optional_program("prometheus", override=tmp_path / "none", setting="VLA_PROMETHEUS_BIN")


def test_without_a_webhook_alertmanager_runs_and_tells_nobody(plan: Monitoring, tmp_path: Path) -> None:
    (alertmanager,) = [server for server in monitoring(plan, environment=ENVIRONMENT) if server.name == "alertmanager"]
    with running(alertmanager, log=tmp_path / "log"):
        status = ask(plan.alertmanager_port.number, "/api/v2/status")
    assert "webhook_configs" not in status["config"]["original"]
    assert {"pages", "tickets", "deadman"} <= set(re.findall(r"name: (\w+)", status["config"]["original"]))


def test_a_taken_port_is_said_when_prometheus_is_to_start(plan: Monitoring) -> None:
    (prometheus,) = [server for server in monitoring(plan, environment=ENVIRONMENT) if server.name == "prometheus"]
    with (
        ThreadingHTTPServer(("127.0.0.1", plan.port.number), BaseHTTPRequestHandler),
        pytest.raises(StartError, match="VLA_PROMETHEUS_PORT moves it"),
    ):
        prometheus.prepare()


def test_programs_on_the_path_are_linked_and_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on_path = tmp_path / "path"
    on_path.mkdir()
    for name in ("prometheus", "promtool", "prometheus-alertmanager", "amtool"):
        (on_path / name).write_text("#!/bin/sh\n")
        (on_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(on_path))
    assert fetch(tmp_path / "to") == "those on PATH"
    assert (tmp_path / "to" / "bin" / "alertmanager").resolve() == on_path / "prometheus-alertmanager"
    (on_path / "amtool").unlink()
    with pytest.raises(CannotFetchError, match="there is no apt here"):
        fetch(tmp_path / "to")


class Receiver:
    """What Alertmanager has sent so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.alerts: dict[str, dict[str, Any]] = {}


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A webhook on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.alerts.update({alert["labels"]["alertname"]: alert for alert in body["alerts"]})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}/alerts")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def ask(port: int, path: str) -> Any:
    """The JSON of a GET on this machine."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return json.load(answer)


def query(stack: Stack, expression: str) -> list[float]:
    """The values of an instant query."""
    port = int(stack.environment["VLA_PROMETHEUS_PORT"])
    found = ask(port, f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
    return [float(series["value"][1]) for series in found["data"]["result"]]


def break_the_books(stack: Stack) -> None:
    """A usage event that can never become a row, as a bug of ours might write it."""
    lines = (stack.state_dir / "env").read_text().splitlines()
    (url,) = [line.partition("=")[2] for line in lines if line.startswith("VLA_REDIS_URL=")]
    with Redis.from_url(url) as redis:
        redis.xadd(STREAM, {FIELD: b"no usage event"})


@pytest.mark.timeout(
    480
)  # a whole service, and looks of the worker that come every 10 s: 130 s on a machine with six others at work
def test_an_alert_of_the_running_service_arrives_at_a_webhook(tmp_path: Path) -> None:
    """The real rules, times and routes: this alert has no `for`, so only the interval is shortened."""
    with (
        receiving() as receiver,
        running_stack(tmp_path / "state", VLA_SCRAPE_INTERVAL_S="1", VLA_ALERT_WEBHOOK_URL=receiver.url) as stack,
    ):
        break_the_books(stack)
        until(lambda: {"DeadUsageEvents", "Watchdog"} <= receiver.alerts.keys())
        alert = receiver.alerts["DeadUsageEvents"]
        assert alert["status"] == "firing"
        assert alert["labels"] == {"alertname": "DeadUsageEvents", "severity": "page"}
        assert alert["annotations"]["summary"] == "1 usage event(s) could not be recorded"
        assert alert["annotations"]["runbook_url"].endswith("/docs/runbooks/DeadUsageEvents/")

        check_what_prometheus_sees(stack)
        check_the_picture(stack)
        stopped = vlaapi("down", environment=stack.environment)
        assert "stopped after" in stopped


def check_what_prometheus_sees(stack: Stack) -> None:
    """Every address answers it, every rule can be judged, and the worker's looks are there."""
    jobs = {"api", "triton", "objects", "prometheus", "alertmanager"}
    until(lambda: sorted(query(stack, "up")) == [1.0] * len(jobs))
    rules = ask(int(stack.environment["VLA_PROMETHEUS_PORT"]), "/api/v1/rules")["data"]["groups"]
    judged = [rule for group in rules for rule in group["rules"]]
    assert len(judged) > 60
    assert {rule["name"]: rule["lastError"] for rule in judged if rule.get("lastError")} == {}
    until(lambda: query(stack, "vla_store_up") == [1.0] * 3)
    assert query(stack, "time() - max(vla_worker_timestamp_seconds) < 60") != []
    assert query(stack, "vla_customers_spiking") == [0.0]


def check_the_picture(stack: Stack) -> None:
    """One look at `vlaapi status --watch`, from the same service."""
    console = Console(width=110, file=sys.stdout)
    with console.capture() as shown:
        watch(stack.state_dir, console, is_over=lambda: True)
    text = shown.get()
    for part in ("requests/min", "success rate", "1 usage_events", "triton", "alertmanager", "serving"):
        assert part in text, part
