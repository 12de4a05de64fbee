"""The record of a key: what travels to Redis, and when a key is refused."""

from uuid import uuid4

import msgspec
import pytest

from billing.tiers import Tier
from control_plane.identity.record import KeyRecord, decode_record, encode_record


def a_record(**values: object) -> KeyRecord:
    """Valid, unless said otherwise."""
    usual = KeyRecord(
        read_at_s=1_000.0,
        key_id=uuid4(),
        customer_id=uuid4(),
        company_name="Acme Robotics",
        tier=Tier.ENTERPRISE,
        per_minute=1000,
        per_day=100_000,
        per_month=None,
        concurrency=256,
        key_per_minute=None,
        is_active=True,
        is_revoked=False,
        expires_at_s=None,
    )
    return msgspec.structs.replace(usual, **values)


def test_a_record_comes_back_as_it_went() -> None:
    record = a_record(expires_at_s=5.5, key_per_minute=3)
    assert decode_record(encode_record(record)) == record


@pytest.mark.parametrize("data", [b"", b"\x80\x04K\x01.", b"\x90", b"\x91\x01", b"{}", b"\xff" * 40])
def test_other_bytes_are_no_record(data: bytes) -> None:
    assert decode_record(data) is None


def test_another_versions_record_is_no_record() -> None:
    assert decode_record(encode_record(a_record(version=99))) is None


def test_the_principal_says_what_the_record_says() -> None:
    record = a_record(key_per_minute=3)
    principal = record.principal()
    assert (principal.key_id, principal.customer_id) == (record.key_id, record.customer_id)
    assert (principal.limits.per_month, principal.key_per_minute) == (None, 3)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({}, None),
        ({"expires_at_s": 2_000.1}, None),
        ({"expires_at_s": 2_000.0}, "expired_key"),
        ({"is_revoked": True, "expires_at_s": 1.0, "is_active": False}, "revoked_key"),
        ({"is_active": False}, "inactive_customer"),
        ({"is_active": False, "expires_at_s": 1.0}, "expired_key"),
    ],
)
def test_a_key_is_refused_for_the_reason_that_its_holder_can_act_on(values: dict[str, object], code: str | None) -> None:
    assert a_record(**values).refusal(now_s=2_000.0) == code
