"""Lists in pages, newest first: `cursor` is where the page before ended. It is an id, so a page never skips or repeats a row."""

from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from control_plane.errors import ApiError
from control_plane.identity.public_id import parse_public_id, public_id

_Row = TypeVar("_Row")
_Item = TypeVar("_Item")

LONGEST = 200
Limit = Annotated[int, Meta(ge=1, le=LONGEST, description="At most so many rows.")]
Cursor = Annotated[str, Meta(max_length=100, description="`next_cursor` of the page before.")]


class PageQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """How much of a list, from where."""

    limit: Limit = 50
    cursor: Cursor | None = None


class Page(msgspec.Struct, Generic[_Item], frozen=True, kw_only=True):
    """A part of a list. Without `next_cursor` there is no more."""

    data: tuple[_Item, ...]
    next_cursor: str | None


def before_of(query: PageQuery, prefix: str) -> UUID | None:
    """The id that the cursor names. Raises ApiError naming `cursor`."""
    if query.cursor is None:
        return None
    id_ = parse_public_id(prefix, query.cursor)
    if id_ is None:
        raise ApiError("invalid_field", "cursor must be a next_cursor of this list.", param="cursor")
    return id_


def page_of(rows: Sequence[_Row], query: PageQuery, prefix: str, shown: Callable[[_Row], _Item]) -> Page[_Item]:
    """`rows` must have been asked for with `limit + 1`, and have an `id`."""
    there = rows[: query.limit]
    is_last = len(rows) <= query.limit
    cursor = None if is_last else public_id(prefix, there[-1].id)  # type: ignore[attr-defined]  # as the docstring says
    return Page(data=tuple(map(shown, there)), next_cursor=cursor)
