"""The `Idempotency-Key` of a request as a value, and what makes two requests under it the same. Knows no store and no route.

draft-ietf-httpapi-idempotency-key-header has it as a quoted string; most clients send it bare. Both are taken.
"""

import hashlib
import re
from collections.abc import Sequence

from control_plane.errors import ApiError

HEADER = b"idempotency-key"
MAX_LENGTH = 255

_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"')
_BARE = re.compile(r"[!#-+\--~]+")  # visible, without quote and comma
_BOUNDARY = re.compile(rb'boundary="?([^";,\s]+)"?', re.IGNORECASE)


def idempotency_key(values: Sequence[bytes]) -> str:
    """The key in the header's values. Raises ApiError `invalid_idempotency_key`."""
    text = values[0].decode("latin-1").strip() if len(values) == 1 else ""
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        text = quoted[1]
    elif not _BARE.fullmatch(text):
        raise ApiError("invalid_idempotency_key", param="Idempotency-Key")
    if len(text) > MAX_LENGTH:
        raise ApiError("invalid_idempotency_key", f"The key is longer than {MAX_LENGTH} characters.", param="Idempotency-Key")
    return text


def fingerprint(query: bytes, content_type: bytes, body: bytes) -> bytes:
    """Of what was asked, to the byte; but a form's boundary, which clients draw anew for each attempt, is no part of it."""
    boundary = _BOUNDARY.search(content_type) if content_type.lower().startswith(b"multipart/") else None
    if boundary is not None:
        content_type = content_type.replace(boundary[1], b"")
        body = body.replace(b"--" + boundary[1], b"--")
    digest = hashlib.sha256()
    for part in (query, content_type, body):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()
