"""The web application over given neighbours: routes, doors, error shapes. No socket, no store and no setting is opened here.

`control_plane.app` brings the real neighbours, a test of failures may bring others. FastAPI stays off the hot path: a request for
a motion goes from the doorway straight to its door, a raw ASGI endpoint.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from control_plane.errors import ApiError
from control_plane.idempotency.claims import Claims
from control_plane.inference.body import BodyLimits
from control_plane.inference.dry_run import DryRun
from control_plane.inference.pipeline import Pipeline
from control_plane.metrics import Metrics
from control_plane.policies.routes import PATH as MODELS_PATH
from control_plane.policies.routes import ModelList
from control_plane.protocols.actions import METADATA_PATH as ACTIONS_METADATA_PATH
from control_plane.protocols.actions import ActionsMetadata
from control_plane.protocols.desk import Desk, Handler
from control_plane.protocols.doorway import Doorway, Register
from control_plane.protocols.idempotent import Callers, Idempotency, Idempotent, motion_keeping
from control_plane.protocols.openapi import document
from control_plane.protocols.operations import Operations
from control_plane.protocols.robots import PATH as ROBOTS_PATH
from control_plane.protocols.robots import PROFILE_PATH, RobotList
from control_plane.protocols.safety_check import PATH as CHECK_PATH
from control_plane.protocols.safety_check import SafetyCheckDoor
from control_plane.protocols.safety_settings import PATH as SETTINGS_PATH
from control_plane.protocols.safety_settings import SafetySettings
from control_plane.protocols.ways_in import inference_doors, sockets

ERRORS_PATH = "/errors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Everything the routes lead to."""

    pipeline: Pipeline
    body_limits: BodyLimits
    models: ModelList
    operations: Operations
    robots: RobotList
    safety_settings: SafetySettings
    dry_run: DryRun
    desk: Desk
    metrics: Metrics
    log: FilteringBoundLogger
    public_url: str
    socket_idle_s: float = 600.0


class _Application(FastAPI):
    """FastAPI with our own description of the API, and a way past it to the doors where it has nothing to do.

    Seven layers and the routes stood before those: a tenth of what the control plane itself costs a request.
    """

    straight: Mapping[str, ASGIApp] = MappingProxyType({})  # where a POST to exactly this path goes, doorway included
    sockets: Mapping[str, ASGIApp] = MappingProxyType({})  # where a WebSocket to exactly this path goes, in the same way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        way: ASGIApp = super().__call__
        if scope["type"] == "websocket":
            way = self.sockets.get(scope["path"], way)
        elif scope["type"] == "http" and scope["method"] == "POST":
            way = self.straight.get(scope["path"], way)
        await way(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        return document()


class _Door(Route):
    """A route that leaves its template in the scope, where the doorway finds the label of metrics and logs."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return match, {**child_scope, "route": self}


def assemble(doors: Doors, *, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> FastAPI:
    """The ASGI application. `lifespan` opens what the doors need when the server starts and closes it when it stops."""
    operations, errors_url = doors.operations, f"{doors.public_url.rstrip('/')}{ERRORS_PATH}"
    register = Register(metrics=doors.metrics, log=doors.log, errors_url=errors_url, drain=operations.drain)
    ways_in = inference_doors(doors.pipeline, doors.body_limits, errors_url=errors_url)
    metadata = ActionsMetadata(offer=doors.pipeline.contract.offer, authenticate=doors.models.authenticate)
    app = _Application(
        routes=[
            *(_Door(door.path, door, methods=["POST"]) for door in ways_in),
            _Door(ACTIONS_METADATA_PATH, metadata.show),
            _Door(MODELS_PATH, doors.models.list_models),
            _Door(ROBOTS_PATH, doors.robots.list_robots),
            _Door(PROFILE_PATH, doors.robots.safety_profile),
            _Door(CHECK_PATH, SafetyCheckDoor(dry_run=doors.dry_run, limits=doors.body_limits), methods=["POST"]),
            _Door(SETTINGS_PATH, doors.safety_settings.serve, methods=["GET", "PUT"]),
            _Door("/health", operations.health),
            _Door("/healthz", operations.healthz),
            _Door("/ready", operations.ready),
            _Door("/metrics", operations.exposition),
            _Door(ERRORS_PATH, operations.errors),
            *(_Door(path, _by_method(ways), methods=list(ways)) for path, ways in doors.desk.addresses().items()),
        ],
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # its pages load scripts from a foreign host
        redoc_url=None,
        exception_handlers={HTTPException: _framework_error, RequestValidationError: _validation_error},
    )
    idempotency = idempotency_of(doors, register)
    app.add_middleware(Idempotent, idempotency=idempotency)
    app.add_middleware(Doorway, register=register)
    open_sockets = sockets(doors.pipeline, doors.body_limits, register, idle_s=doors.socket_idle_s)
    app.sockets = {door.path: Doorway(door, register=register) for door in open_sockets}
    app.straight = {door.path: Doorway(Idempotent(door, idempotency=idempotency), register=register) for door in ways_in}
    return app


def idempotency_of(doors: Doors, register: Register) -> Idempotency:
    """Idempotency over the stores and limits that the doors have."""
    stores, pipeline = doors.desk.stores, doors.pipeline
    return Idempotency(
        claims=Claims(redis=stores.redis, pepper=stores.pepper),
        identify=Callers(stores=stores, authenticate=pipeline.authenticator.authenticate).identify,
        in_flight=pipeline.in_flight,
        body_limits=doors.body_limits,
        motion=motion_keeping(pipeline.default_deadline_ms),
        register=register,
        log=doors.log,
    )


def _by_method(ways: Mapping[str, Handler]) -> Handler:
    """One address has one route, so that a 405 names every method that it takes."""

    async def serve(request: Request) -> Response:
        return await ways["GET" if request.method == "HEAD" else request.method](request)

    return serve


# By status; what the framework says itself reaches nobody.
_FRAMEWORK_CODES: Mapping[int, str] = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}


async def _framework_error(_request: Request, error: HTTPException) -> Any:
    """404 and 405 in our shape."""
    raise ApiError(_FRAMEWORK_CODES.get(error.status_code, "internal_error"), headers=error.headers) from None


async def _validation_error(_request: Request, error: RequestValidationError) -> Any:
    """FastAPI's 422 in our shape, for the routes that let it validate."""
    fault = error.errors()[0]
    param = ".".join(str(part) for part in fault["loc"][1:]) or None
    raise ApiError("missing_field" if fault["type"] == "missing" else "invalid_field", fault["msg"], param=param) from None
