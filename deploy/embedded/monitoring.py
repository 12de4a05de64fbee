"""Prometheus and Alertmanager as embedded servers, with the rules and routes of `deploy/prometheus` and `deploy/alertmanager`.

Both are optional: no wheel carries them, so they are used when they can be found, nothing waits for them, and what is missing is
said in one line. Knows which addresses are scraped here, and no rule.
"""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from deploy.embedded.canary import connection_status
from deploy.embedded.from_debian import found
from deploy.embedded.ports import refuse_taken
from deploy.embedded.server import NotReadyError, Port, Server, StartError
from deploy.embedded.settings import ROOT
from deploy.embedded.state import write_private

FETCHED = ROOT / ".venv-monitoring" / "bin"
OLDEST = (2, 42)  # the first with `keep_firing_for`
_PROMETHEUS, _ALERTMANAGER = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "alertmanager"
_KEPT = ("--storage.tsdb.retention.time=35d", "--storage.tsdb.retention.size=2GB")  # the objective looks back 30 days
_PORT_STEP = 3  # Alertmanager's port above Prometheus', as 9093 is above 9090
PORTS = _PORT_STEP + 1
_SECRET_FILE = re.compile(r"url_file: \S+")
_INTERVALS = re.compile(r"(scrape|evaluation)_interval: 15s")
_OF_CONTAINERS = re.compile(r", /etc/vlaapi/targets/\w+\.yml")
_DOCS = "${DOCS_URL}"  # Prometheus 3 puts the environment in; the oldest that is taken does not


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitoring:
    """The two programs (None: not here), where they keep their data, and what they are told.

    `targets` are addresses by job, as in `deploy/prometheus/targets`. `webhook_url` is where alerts go.
    """

    prometheus: Path | None
    alertmanager: Path | None
    folder: Path
    port: Port
    targets: Mapping[str, tuple[str, ...]]
    docs_url: str
    scrape_interval_s: int = 15
    webhook_url: str | None = None

    @property
    def alertmanager_port(self) -> Port:
        """Where Alertmanager listens."""
        return Port(number=self.port.number + _PORT_STEP, setting=self.port.setting)

    @property
    def url(self) -> str:
        """Prometheus' own address."""
        return f"http://127.0.0.1:{self.port.number}"


def optional_program(name: str, *, override: Path | None, setting: str) -> Path | None:
    """The program named by the setting, else the one on PATH, else what `make monitoring` fetched. Raises StartError."""
    if override is not None:
        if not override.exists():
            raise StartError(f"{setting}={override}: there is nothing at that path")
        return override
    fetched = FETCHED / name
    return found(name) or (fetched if fetched.exists() else None)


def missing(plan: Monitoring) -> tuple[str, ...]:
    """What is not watched here, and what to do about it: a line each."""
    lines = []
    if plan.prometheus is None:
        lines.append("no Prometheus here, so no rules and no alerts: `make monitoring` fetches it, VLA_PROMETHEUS_BIN names one")
    elif (version := _version(plan.prometheus)) < OLDEST:
        lines.append(f"{plan.prometheus} is {_dotted(version)}; the rules need {_dotted(OLDEST)} or newer, so no alerts here")
    elif not plan.targets.get("api"):
        lines.append("/metrics answers on loopback only, so nothing watches the API here: VLA_LISTEN_ADDRESS=0.0.0.0 has both")
    if plan.alertmanager is None:
        lines.append(
            "no Alertmanager here, so nobody is told of alerts: `make monitoring` fetches it, VLA_ALERTMANAGER_BIN names one"
        )
    return tuple(lines)


def monitoring(plan: Monitoring, *, environment: Mapping[str, str]) -> tuple[Server, ...]:
    """The servers that can be had. Nothing waits for them."""
    servers = []
    if plan.prometheus is not None and _version(plan.prometheus) >= OLDEST:
        servers.append(_prometheus(plan, plan.prometheus, environment))
    if plan.alertmanager is not None:
        servers.append(_alertmanager(plan, plan.alertmanager, environment))
    return tuple(servers)


def _version(program: Path) -> tuple[int, ...]:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"version (\d+)\.(\d+)", done.stdout + done.stderr)
    return tuple(map(int, version.groups())) if version else (0, 0)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _prometheus(plan: Monitoring, program: Path, environment: Mapping[str, str]) -> Server:
    folder = plan.folder / "prometheus"
    return Server(
        name="prometheus",
        argv=(
            *(str(program), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}", *_KEPT),
            *(f"--web.listen-address=127.0.0.1:{plan.port.number}", f"--web.external-url={plan.url}", "--log.level=warn"),
        ),
        environment=environment,
        folder=plan.folder,
        prepare=partial(_write_prometheus, plan, folder),
        check=lambda _: asyncio.to_thread(_answers, plan.port.number),
        is_awaited=False,
    )


def _alertmanager(plan: Monitoring, program: Path, environment: Mapping[str, str]) -> Server:
    folder, port = plan.folder / "alertmanager", plan.alertmanager_port
    return Server(
        name="alertmanager",
        argv=(
            *(str(program), f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'data'}"),
            *(f"--web.listen-address=127.0.0.1:{port.number}", f"--web.external-url=http://127.0.0.1:{port.number}"),
            *("--cluster.listen-address=", "--log.level=warn"),
        ),
        environment=environment,
        folder=folder,  # where a fetched one looks for its templates (from_debian.py)
        prepare=partial(_write_alertmanager, plan, folder, program),
        check=lambda _: asyncio.to_thread(_answers, port.number),
        is_awaited=False,
    )


def _write_prometheus(plan: Monitoring, folder: Path) -> None:
    """The configuration as it is in production; only addresses and intervals are this machine's.

    A taken port is found out here and not before the start, because the service does without.
    """
    refuse_taken([("prometheus", plan.port)])
    folder.mkdir(mode=0o700, exist_ok=True)
    shutil.rmtree(folder / "targets", ignore_errors=True)
    shutil.rmtree(folder / "rules", ignore_errors=True)
    shutil.copytree(_PROMETHEUS / "rules", folder / "rules", copy_function=shutil.copyfile)
    (folder / "targets").mkdir(mode=0o700)
    for path in sorted((_PROMETHEUS / "targets").glob("*.yml")):
        found_here = [{"targets": list(plan.targets.get(path.stem, ()))}]
        write_private(folder / "targets" / path.name, json.dumps(found_here).encode(), is_durable=False)  # JSON is YAML
    text = _INTERVALS.sub(rf"\1_interval: {plan.scrape_interval_s}s", (_PROMETHEUS / "prometheus.yml").read_text())
    text = _OF_CONTAINERS.sub("", text)
    write_private(folder / "prometheus.yml", text.replace(_DOCS, plan.docs_url).encode(), is_durable=False)


def _write_alertmanager(plan: Monitoring, folder: Path, program: Path) -> None:
    refuse_taken([("alertmanager", plan.alertmanager_port)])
    folder.mkdir(mode=0o700, exist_ok=True)
    for template in program.resolve().parent.parent.glob("share/prometheus/alertmanager/*.tmpl"):
        shutil.copyfile(template, folder / template.name)
    text = (_ALERTMANAGER / "alertmanager.yml").read_text()
    if plan.webhook_url is None:  # receivers without a destination: Alertmanager only shows
        text = re.sub(r" +webhook_configs: \*webhook\n| +webhook_configs: &webhook\n(?: {6}.*\n)+", "", text)
    else:
        address = json.dumps(plan.webhook_url)
        text = _SECRET_FILE.sub(lambda _: f"url: {address}", text)
    write_private(folder / "alertmanager.yml", text.encode(), is_durable=False)


def _answers(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        if (status := connection_status(connection, "/-/ready")) != 200:  # at first it answers, and is not ready
            raise NotReadyError(f"HTTP {status}")
    except (OSError, HTTPException) as error:
        raise NotReadyError(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()
