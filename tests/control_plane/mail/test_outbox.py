"""What may go into the outbox: nothing that becomes a header of its own, nothing too large, no half mail."""

from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.errors import ApiError
from control_plane.mail.outbox import MAX_ATTACHMENT_BYTES, MAX_BODY_CHARACTERS, Attachment
from tests.control_plane.mail.conftest import put, rows


def file(**changes: Any) -> Attachment:
    """An attachment."""
    return Attachment(**{"filename": "a.pdf", "media_type": "application/pdf", "content": b"x", **changes})


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"to": "ops@acme.example\r\nBcc: all@acme.example"}, "email"),
        ({"to": "ops@acme.example\nBcc: all@acme.example"}, "email"),
        ({"to": "ops@acme.example,all@acme.example"}, "email"),
        ({"to": "Ops<ops@acme.example>"}, "email"),
        ({"to": "nobody"}, "email"),
        ({"subject": "Hello\r\nBcc: all@acme.example"}, "subject"),
        ({"subject": "Hello\u2028Bcc: all@acme.example"}, "subject"),
        ({"subject": "x" * 201}, "subject"),
        ({"subject": " "}, "subject"),
        ({"text": "x" * (MAX_BODY_CHARACTERS + 1)}, "text"),
        ({"attachments": (file(filename='a.pdf"\r\nX: y'),)}, "attachments"),
        ({"attachments": (file(filename="../a.pdf"),)}, "attachments"),
        ({"attachments": (file(media_type="application/pdf\r\nX: y"),)}, "attachments"),
        ({"attachments": (file(content=b"x" * (MAX_ATTACHMENT_BYTES // 2 + 1)),) * 2}, "attachments"),
        ({"attachments": (file(),) * 11}, "attachments"),
    ],
)
async def test_what_would_break_a_header_or_a_bound_is_refused(engine: AsyncEngine, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as refusal:
        await put(engine, **changes)
    assert (refusal.value.kind.code, refusal.value.param) == ("invalid_field", param)
    assert await rows(engine) == []
