"""The doors of everything that is not inference: `/admin/v1` for operators, and customers' own affairs, over `Endpoint`s.

Reads query and body strictly, within bounds, checks the caller against the function's signature, and answers; every rule of a
resource is in its room. A customer's key opens nothing under `/admin/v1` and an operator's nothing else. Fails closed.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from control_plane.audit.record import By
from control_plane.db import DatabaseAwayError
from control_plane.endpoints.endpoint import Call, Document, Endpoint, Shape
from control_plane.errors import ApiError
from control_plane.identity.address import Network, calling_address
from control_plane.identity.principal import Principal
from control_plane.identity.public_id import public_id
from control_plane.inference.body import BodyLimits, read_body
from control_plane.inference.fields import complaints
from control_plane.keys.verbs import Stores
from control_plane.limits.window import Window
from control_plane.mail.letters import Letterhead
from control_plane.operators.roles import Viewer, role_of
from control_plane.operators.verbs import authenticate_operator
from control_plane.policies.routes import Authenticate
from control_plane.protocols.doorway import trace_of
from control_plane.protocols.openapi_endpoints import operator_document
from control_plane.protocols.operator_endpoints import OPERATOR_ENDPOINTS
from control_plane.protocols.own_endpoints import OWN_ENDPOINTS

OPERATOR_DOCUMENT_PATH = "/admin/v1/openapi.json"
OPERATOR_CALLS_PER_MINUTE = 600
OWN_CALLS_PER_MINUTE = 120
OPEN_CALLS_PER_HOUR = 10  # from one address, for whoever has no key
ALL_OPEN_CALLS_PER_HOUR = 200  # from all addresses together: each makes an e-mail to the operator
_BODY = BodyLimits(max_bytes=128_000, timeout_s=10.0)
_HEADERS = {"Cache-Control": "no-store"}  # an answer may hold a new key

# Who calls, if they may: from the request and what the signature asks for.
_Admit = Callable[[Request, Shape], Awaitable[tuple[Any, str]]]
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Every address besides inference. `more_operator_endpoints` are those that need a neighbour of their own."""

    stores: Stores
    letterhead: Letterhead
    authenticate: Authenticate
    trusted_proxies: Sequence[Network] = ()
    more_operator_endpoints: Sequence[Endpoint] = ()
    is_loopback_allowed: bool = False
    _operators: Window = field(init=False)
    _customers: Window = field(init=False)
    _open: Window = field(init=False)
    _all_open: Window = field(init=False)

    def __post_init__(self) -> None:
        windows = {
            "operators": (OPERATOR_CALLS_PER_MINUTE, 60),
            "customers": (OWN_CALLS_PER_MINUTE, 60),
            "open": (OPEN_CALLS_PER_HOUR, 3600),
            "all_open": (ALL_OPEN_CALLS_PER_HOUR, 3600),
        }
        for name, (limit, length_s) in windows.items():
            window = Window(redis=self.stores.redis, name=name, limit=limit, length_s=length_s)
            object.__setattr__(self, f"_{name}", window)

    def addresses(self) -> Mapping[str, Mapping[str, Handler]]:
        """Handlers by path and method."""
        # These first: an address with an ending is a part of a longer one otherwise.
        operators = (*self.more_operator_endpoints, *OPERATOR_ENDPOINTS)
        described = msgspec.json.encode(operator_document(operators))

        async def description(request: Request) -> Response:
            await self._operator(request, Shape(by=Viewer, query=None, body=None, answer=None))
            return Response(described, media_type="application/json", headers=_HEADERS)

        by_path: dict[str, dict[str, Handler]] = {OPERATOR_DOCUMENT_PATH: {"GET": description}}
        for endpoints, admit in ((operators, self._operator), (OWN_ENDPOINTS, self._customer)):
            for endpoint in endpoints:
                by_path.setdefault(endpoint.path, {})[endpoint.method] = self._handler(endpoint, admit)
        return by_path

    def _handler(self, endpoint: Endpoint, admit: _Admit) -> Handler:
        shape = endpoint.shape

        async def handle(request: Request) -> Response:
            with _database():
                caller, actor = await admit(request, shape)
                call = self._call(request, actor)
                read = {"query": _query(request, shape), "body": await _body(request, shape)}
                given = {name: value for name, value in read.items() if getattr(shape, name) is not None}
                answer = await endpoint.serve(caller, call, **given)
            if isinstance(answer, Response):
                return answer
            if isinstance(answer, Document):
                named = {"Content-Disposition": f'attachment; filename="{answer.filename}"'}
                return Response(answer.content, media_type=answer.media_type, headers={**_HEADERS, **named})
            body = b"" if shape.answer is None else msgspec.json.encode(answer)
            return Response(body, status_code=endpoint.status, media_type="application/json", headers=_HEADERS)

        return handle

    def _call(self, request: Request, actor: str) -> Call:
        request_id = trace_of(request.scope).public_id
        return Call(
            stores=replace(self.stores, by=By(actor=actor, request_id=request_id)),
            letterhead=self.letterhead,
            path=cast(Mapping[str, str], request.path_params),
            request_id=request_id,
            is_loopback_allowed=self.is_loopback_allowed,
            address=None if (address := calling_address(self.trusted_proxies)) is None else str(address),
        )

    async def _operator(self, request: Request, shape: Shape) -> tuple[Any, str]:
        operator = await authenticate_operator(self.stores.engine, self.stores.pepper, request.headers.get("authorization"))
        await self._operators.count(operator.id.hex)
        if not isinstance(operator, shape.by):  # before anything is looked up: the refusal says nothing about what exists
            raise ApiError("operator_role", f"This needs an operator key of the role {role_of(shape.by).value}.")
        return operator, operator.actor

    async def _customer(self, request: Request, shape: Shape) -> tuple[Any, str]:
        if shape.by is not Principal:
            address = calling_address(self.trusted_proxies)
            await self._open.count(str(address or "unknown"))
            await self._all_open.count("all")
            return None, "nobody"
        principal = await self.authenticate(request.headers.get("authorization"))
        trace_of(request.scope).customer_id = principal.customer_id
        await self._customers.count(principal.customer_id.hex)
        return principal, f"key {public_id('key', principal.key_id)}"


def _query(request: Request, shape: Shape) -> Any:
    if shape.query is None:
        return None
    pairs = request.query_params.multi_items()
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ApiError("invalid_field", "A query parameter is given twice.", param="query")
    with complaints("query"):
        found = msgspec.convert(named, shape.query, strict=False)
    for name, written in named.items():
        if isinstance(getattr(found, name), datetime) and ":" not in written:  # msgspec takes "0.5" for half a second of 1970
            raise ApiError("invalid_field", "An instant is written as 2026-11-27T18:30:00Z.", param=name)
    return found


async def _body(request: Request, shape: Shape) -> Any:
    if shape.body is None:
        return None
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError("unsupported_media_type", "Send application/json.")
    body = await read_body(request.receive, dict(request.scope["headers"]), _BODY)
    with complaints("JSON"):
        return msgspec.json.decode(body, type=shape.body)


@contextmanager
def _database() -> Any:
    try:
        yield
    except DatabaseAwayError:
        message = "The database cannot be reached at present."
        raise ApiError("store_unavailable", message, retry_after_ms=1000) from None
