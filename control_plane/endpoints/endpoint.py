"""One operation of the API outside the hot path, described by its function's signature:

    async def change_tier(by: Admin, call: Call, *, body: TierChange) -> CustomerReport

`by` is who may call (an operator's role, or `Principal` for a customer's key), `query` and `body` are msgspec types that are read
strictly, the return type is what is sent. The OpenAPI documents are made from the same words. Knows no HTTP framework.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints
from uuid import UUID

from control_plane.identity.public_id import parse_public_id
from control_plane.keys.verbs import Stores, no_such
from control_plane.mail.letters import Letterhead

Serve = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call. `stores.by` names the caller and the request, for the audit log."""

    stores: Stores
    letterhead: Letterhead
    path: Mapping[str, str]
    request_id: str
    address: str | None = None  # the caller's, as nginx or the socket says
    is_loopback_allowed: bool = False  # for webhooks, in development

    def id(self, what: str, prefix: str) -> UUID:
        """The id in the path's `{what}`. One that cannot exist is told like one that does not: raises ApiError not_found."""
        id_ = parse_public_id(prefix, self.path[what])
        if id_ is None:
            raise no_such(what, repr(self.path[what])[:100])
        return id_


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """An answer that is a file. The endpoint's `media_type` says which kind."""

    content: bytes
    media_type: str
    filename: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a signature says. `query`, `body` and `answer` are None where there is none."""

    by: Any
    query: Any
    body: Any
    answer: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An operation at an address. `name` is its operationId; `errors` are codes besides those that every call may meet."""

    method: str
    path: str
    name: str
    summary: str
    serve: Serve
    status: int = 200
    errors: tuple[str, ...] = ()
    body_example: Any = None
    answer_example: Any = None
    media_type: str = "application/json"  # of the answer

    @property
    def shape(self) -> Shape:
        """Read from the function. Raises TypeError for one that does not say who may call it."""
        function = getattr(self.serve, "__func__", self.serve)
        hints = get_type_hints(function)
        if "by" not in hints:
            raise TypeError(f"{function.__qualname__} does not say `by` whom it may be called")
        answer = hints.get("return")
        return Shape(
            by=hints["by"],
            query=hints.get("query"),
            body=hints.get("body"),
            answer=None if answer is type(None) else answer,
        )
