"""`Idempotency-Key` on every POST, whatever its door: stands between the doorway and the routes, so that no door can forget it.

Without the header a request passes untouched. With it: who calls is asked first, the body is read and compared, one attempt
holds the key, its answer is kept before it leaves. Fails closed when Redis is away: who asks for at most once gets nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from control_plane.db import DatabaseAwayError
from control_plane.errors import ApiError, error_headers
from control_plane.idempotency.claims import Claim, Claims, Found, Keeping, Kept
from control_plane.idempotency.key import HEADER, fingerprint, idempotency_key
from control_plane.identity.data_policy import asked_policy
from control_plane.identity.principal import Principal, with_less_kept
from control_plane.identity.scope import is_restricted
from control_plane.inference.body import BodyLimits, read_body
from control_plane.inference.in_flight import InFlight
from control_plane.inference.trace import Trace
from control_plane.keys.verbs import Stores
from control_plane.operators.verbs import authenticate_operator
from control_plane.policies.routes import Authenticate
from control_plane.protocols.doorway import Register, json_headers, trace_of
from control_plane.protocols.http_wire import data_policy_of
from control_plane.redis import REDIS_AWAY

REPLAYED = "replayed"
REPLAYED_HEADER = (b"idempotent-replayed", b"true")

# Doors that answer with a motion, or judge one. A motion of ten seconds ago is of no use to a robot, and a hazard.
MOTION_PATHS = frozenset({"/v1/inference", "/v1/safety/check", "/v1/actions/generations", "/act"})
_MOTION_KEPT_MS, _MOTION_REMEMBERED_MS = 10_000, 600_000
_DAY_MS = 86_400_000
MANAGEMENT = Keeping(attempt_ms=30_000, kept_ms=_DAY_MS, remembered_ms=_DAY_MS, may_rerun=False)
_MANAGEMENT_BODY = BodyLimits(max_bytes=128_000, timeout_s=10.0)
_ATTEMPT_MARGIN_MS = 5_000

_KEPT_STATUSES = frozenset({400, 404, 409, 415, 422})  # besides 2xx; the others say nothing about what was asked
_KEPT_HEADERS = frozenset({b"content-type", b"content-length", b"content-disposition", b"cache-control", b"x-vla-test"})
_REFUSALS: Mapping[Found, str] = {
    Found.OTHER: "idempotency_key_reused",
    Found.RUNNING: "request_in_progress",
    Found.GONE: "answer_gone",
    Found.UNKNOWN: "outcome_unknown",
}
_ASK_AGAIN_MS = 250


def motion_keeping(default_deadline_ms: int) -> Keeping:
    """An attempt that outlives its time is harmless: the next one has the same request id, so one of them is billed."""
    return Keeping(
        attempt_ms=default_deadline_ms + _ATTEMPT_MARGIN_MS,
        kept_ms=_MOTION_KEPT_MS,
        remembered_ms=_MOTION_REMEMBERED_MS,
        may_rerun=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose keys: nobody meets another's. `principal` None: an operator, or nobody in particular."""

    name: str
    principal: Principal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Callers:
    """Whose key a request brings: a customer's, an operator's, or nobody's (the door refuses that where a key is asked for)."""

    stores: Stores
    authenticate: Authenticate

    async def identify(self, scope: Scope) -> Owner:
        """Raises ApiError for a key that is not good: an answer is given again to those who may ask."""
        value = dict(scope["headers"]).get(b"authorization")
        if value is None:
            return Owner(name="nobody")
        authorization = value.decode("latin-1")
        if scope["path"].startswith("/admin/"):
            return await self._operator(authorization)
        principal = await self.authenticate(authorization)
        trace_of(scope).customer_id = principal.customer_id
        name = principal.customer_id.hex
        if is_restricted(principal):  # must not be given what a key that may do more was answered
            name += f":{principal.key_id.hex}"
        return Owner(name=name, principal=principal)

    async def _operator(self, authorization: str) -> Owner:
        try:
            operator = await authenticate_operator(self.stores.engine, self.stores.pepper, authorization)
        except DatabaseAwayError:
            raise ApiError("store_unavailable", retry_after_ms=1000) from None
        return Owner(name=operator.id.hex)


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """What it takes. `identify` raises ApiError for a caller whose key is not good."""

    claims: Claims
    identify: Callable[[Scope], Awaitable[Owner]]
    in_flight: InFlight
    body_limits: BodyLimits
    motion: Keeping
    register: Register
    log: FilteringBoundLogger

    def keeping(self, path: str, owner: Owner, headers: Mapping[bytes, bytes]) -> Keeping:
        """How long the answer lies in Redis, sealed: not at all where nothing of a request may be kept."""
        if path not in MOTION_PATHS:
            return MANAGEMENT
        asked, caller = data_policy_of(headers), owner.principal
        if asked is not None and caller is not None:
            caller = with_less_kept(caller, asked_policy(asked))
        return self.motion if caller is None or not caller.is_zero_retention else replace(self.motion, kept_ms=0)


class Idempotent:
    """The middleware."""

    def __init__(self, app: ASGIApp, *, idempotency: Idempotency) -> None:
        self._app = app
        self._with = idempotency

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            values = [value for name, value in scope["headers"] if name == HEADER]
            if values:
                await self._serve(scope, receive, send, idempotency_key(values))
                return
        await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, key: str) -> None:
        own, trace, path = self._with, trace_of(scope), scope["path"]
        owner, headers = await own.identify(scope), dict(scope["headers"])
        keeping = own.keeping(path, owner, headers)
        body = await self._read(scope, receive, owner)
        print_ = fingerprint(scope["query_string"], headers.get(b"content-type", b""), body)
        with _redis():
            claim = await own.claims.claim(owner.name, path, key, print_=print_, request_id=trace.request_id, keeping=keeping)
        if claim.answer is not None:
            await _replay(scope, send, claim.answer)
            return
        if claim.found in _REFUSALS:
            raise _refusal(claim)
        trace.continue_as(claim.request_id)
        trace.is_idempotent = True
        await self._first(scope, _again(body, receive), send, (claim, keeping))

    async def _read(self, scope: Scope, receive: Receive, owner: Owner) -> bytes:
        if scope["path"] not in MOTION_PATHS or owner.principal is None:
            return await read_body(receive, dict(scope["headers"]), _MANAGEMENT_BODY)
        caller, own = owner.principal, self._with
        own.in_flight.shed()
        with own.in_flight.reading(caller.customer_id, caller.limits.concurrency):
            return await read_body(receive, dict(scope["headers"]), own.body_limits)

    async def _first(self, scope: Scope, receive: Receive, send: Send, held: tuple[Claim, Keeping]) -> None:
        """Runs the door. Its answer is kept before it leaves; one that is not kept frees the key."""
        (claim, keeping), trace, reply = held, trace_of(scope), _Reply()
        is_over = False
        try:
            await self._app(scope, receive, reply.take)
            is_over = await self._keep(claim, keeping, reply.kept())
        except asyncio.CancelledError:
            is_over = not keeping.may_rerun  # the work may have been done: it stays unknown
            raise
        except ApiError as error:
            if error.kind.status not in _KEPT_STATUSES:
                is_over = not keeping.may_rerun and error.kind.code == "store_unavailable"  # as above
                raise
            trace.outcome = error.kind.code
            body = msgspec.json.encode(self._with.register.body(trace, error))
            reply.messages = _as_messages(error.kind.status, json_headers(body, error_headers(error)), body)
            is_over = await self._keep(claim, keeping, reply.kept())
        finally:
            if not is_over:
                await self._release(claim, trace)
        for message in reply.messages:
            await send(message)

    async def _keep(self, claim: Claim, keeping: Keeping, kept: Kept) -> bool:
        """False for what must not be kept. An answer that could not be kept is given all the same."""
        if not (200 <= kept.status < 300 or kept.status in _KEPT_STATUSES):
            return False
        try:
            await self._with.claims.finish(claim, kept, keeping)
        except REDIS_AWAY as away:
            self._with.log.warning("answer_not_kept", error=type(away).__name__)
        return True

    async def _release(self, claim: Claim, trace: Trace) -> None:
        try:
            await self._with.claims.release(claim, keeps_id=trace.is_recorded)
        except REDIS_AWAY as away:  # it lapses by itself
            self._with.log.warning("idempotency_key_not_released", error=type(away).__name__)


class _Reply:
    """The answer of a door, held back until it is kept."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def take(self, message: Message) -> None:
        self.messages.append(message)

    def kept(self) -> Kept:
        start, *rest = self.messages
        headers = [(name, value) for name, value in start.get("headers", ()) if name.lower() in _KEPT_HEADERS]
        return Kept(status=start["status"], headers=headers, body=b"".join(message.get("body", b"") for message in rest))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """What the doorway looks for in the scope: here no route was asked."""

    path: str


async def _replay(scope: Scope, send: Send, answer: Kept) -> None:
    if scope["path"] in MOTION_PATHS:
        scope["route"] = _Route(path=scope["path"])
    trace_of(scope).outcome = REPLAYED
    for message in _as_messages(answer.status, [*answer.headers, REPLAYED_HEADER], answer.body):
        await send(message)


def _as_messages(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> list[Message]:
    return [
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": body},
    ]


def _refusal(claim: Claim) -> ApiError:
    code = _REFUSALS[claim.found]
    if claim.found is not Found.RUNNING:
        return ApiError(code, param="Idempotency-Key")
    return ApiError(code, param="Idempotency-Key", retry_after_ms=min(_ASK_AGAIN_MS, max(1, claim.wait_ms)))


def _again(body: bytes, receive: Receive) -> Receive:
    """The body that was read already, then whatever else comes (a hang-up)."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


@contextmanager
def _redis() -> Iterator[None]:
    try:
        yield
    except REDIS_AWAY:
        raise ApiError("idempotency_unavailable", retry_after_ms=1000) from None
