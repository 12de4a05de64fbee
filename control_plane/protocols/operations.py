"""What operators and machines ask: `/health`, `/ready`, `/metrics`, and `/errors`, the page that every error links to.

Alive, ready and degraded are three things: alive needs nothing, ready needs one policy that answers, and an absent Redis or
PostgreSQL only degrades. No key is needed and nothing here tells more than up or down.
"""

import asyncio
import html
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from control_plane.drain import Drain
from control_plane.errors import ERRORS, ErrorKind
from control_plane.metrics import Metrics, render
from control_plane.policies.readiness import Canary, PolicyState

# Answers True when the outside thing does its work; bounded in time, never raises for being away.
Probe = Callable[[], Awaitable[bool]]


class Readiness(StrEnum):
    """May traffic come here?"""

    READY = "ready"
    DEGRADED = "degraded"  # it may: something is away that we can do without for a while
    DRAINING = "draining"  # it may not: this process is being replaced
    UNAVAILABLE = "unavailable"  # it may not: no policy answers


class Up(StrEnum):
    """One dependency."""

    UP = "up"
    DOWN = "down"


class ReadyReport(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `GET /ready`."""

    status: Readiness
    dependencies: dict[str, Up]
    policies: dict[str, PolicyState]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """The endpoints. `probes` are the stores by name; Triton is judged by its canaries."""

    canary: Canary
    probes: Mapping[str, Probe]
    metrics: Metrics
    drain: Drain = field(default_factory=Drain)

    async def health(self, _request: Request) -> Response:
        """This process turns its event loop."""
        return Response(b'{"status":"alive"}', media_type="application/json")

    async def healthz(self, _request: Request) -> Response:
        """The same in the words of openpi's server."""
        return Response(b"OK\n", media_type="text/plain")

    async def ready(self, _request: Request) -> Response:
        """503 only when no policy can answer, or when this process is being replaced."""
        policies, stores = await asyncio.gather(self.canary.states(), self._stores())
        report = report_of(policies, stores)
        if self.drain.has_begun:
            report = msgspec.structs.replace(report, status=Readiness.DRAINING)
        status = 503 if report.status in {Readiness.UNAVAILABLE, Readiness.DRAINING} else 200
        return Response(msgspec.json.encode(report), status_code=status, media_type="application/json")

    async def _stores(self) -> dict[str, bool]:
        return dict(zip(self.probes, await asyncio.gather(*(probe() for probe in self.probes.values())), strict=True))

    async def exposition(self, _request: Request) -> Response:
        """Prometheus's text, over all processes of this machine."""
        return Response(await asyncio.to_thread(render, self.metrics), media_type=CONTENT_TYPE_LATEST)

    async def errors(self, _request: Request) -> Response:
        """The error table as a page."""
        return HTMLResponse(errors_page())


def report_of(policies: Mapping[str, PolicyState], stores: Mapping[str, bool]) -> ReadyReport:
    """What the states add up to."""
    answers = [state is PolicyState.READY for state in policies.values()]
    up = {**stores, "triton": all(answers)}
    status = Readiness.READY if all(up.values()) else Readiness.DEGRADED if any(answers) else Readiness.UNAVAILABLE
    dependencies = {name: Up.UP if is_up else Up.DOWN for name, is_up in up.items()}
    return ReadyReport(status=status, dependencies=dependencies, policies=dict(policies))


def errors_page() -> str:
    """One row per code; `doc_url` of an error points at its row."""
    rows = "".join(map(_error_row, ERRORS.values()))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Errors</title>"
        "<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:72rem;padding:0 1rem}table{border-collapse:collapse}"
        "td,th{border-bottom:1px solid #ddd;padding:.4rem .8rem;text-align:left}:target{background:#ffd}</style>"
        "<h1>Errors</h1><p>Every error is <code>"
        '{"error": {"type", "code", "message", "param", "request_id", "doc_url", "is_retryable", "retry_after_ms",'
        ' "robot_action"}}</code>. A control loop should do what <code>robot_action</code> says.</p>'
        "<table><tr><th>Code<th>Status<th>Type<th>Meaning<th>Try again?<th>Robot</tr>" + rows + "</table>"
    )


def _error_row(kind: ErrorKind) -> str:
    cells = (kind.status, kind.type, html.escape(kind.message), "yes" if kind.is_retryable else "no", kind.robot_action.value)
    return f"<tr id={kind.code}><td><code>{kind.code}</code>" + "".join(f"<td>{cell}" for cell in cells) + "</tr>"
