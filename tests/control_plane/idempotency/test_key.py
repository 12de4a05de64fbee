"""What may be a key, and which requests are the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import ApiError
from control_plane.idempotency.key import fingerprint, idempotency_key


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([b"8e03978e-40d5-43e8-bc93-6894a57f9324"], "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        ([b'"8e03978e-40d5-43e8-bc93-6894a57f9324"'], "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        ([b" ep-17:12 "], "ep-17:12"),
        ([b'"with a space"'], "with a space"),
        ([b"x" * 255], "x" * 255),
    ],
)
def test_bare_and_quoted_keys_are_taken(values: list[bytes], key: str) -> None:
    assert idempotency_key(values) == key


@pytest.mark.parametrize(
    "values", [[], [b""], [b"  "], [b'""'], [b'"open'], [b"a b"], [b"a,b"], [b"a", b"a"], [b"x" * 256], "ü".encode(), [b"\x00"]]
)
def test_what_is_no_key_is_400(values: list[bytes]) -> None:
    with pytest.raises(ApiError) as refused:
        idempotency_key(values if isinstance(values, list) else [values])
    assert (refused.value.kind.code, refused.value.kind.status) == ("invalid_idempotency_key", 400)


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_every_byte_of_a_request_is_in_its_fingerprint(query: bytes, kind: bytes, body: bytes) -> None:
    same = fingerprint(query, kind, body)
    assert same == fingerprint(query, kind, body)
    for other in ((query + b"x", kind, body), (query, kind + b"x", body), (query, kind, body + b"x"), (query, kind + body, b"")):
        assert other == (query, kind, body) or fingerprint(*other) != same


def form(boundary: str, value: str) -> tuple[bytes, bytes]:
    """Content type and body of a form with one field."""
    body = f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\n{value}\r\n--{boundary}--\r\n'
    return f"multipart/form-data; boundary={boundary}".encode(), body.encode()


def test_a_form_drawn_anew_with_another_boundary_is_the_same_form() -> None:
    first, again, other = form("abc123", "1"), form("zzz999", "1"), form("abc123", "2")
    assert fingerprint(b"", *first) == fingerprint(b"", *again)
    assert fingerprint(b"", *first) != fingerprint(b"", *other)
