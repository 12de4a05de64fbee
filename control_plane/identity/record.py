"""What the stores know about one key: everything needed to decide, and nothing secret. Travels to Redis as versioned msgpack.

A value only. Refused keys have records too (revoked, expired, inactive), because each gets its own answer.
"""

from uuid import UUID

import msgspec

from billing.tiers import Tier
from control_plane.identity.data_policy import KEEP_DAYS, DataPolicy, DataTerms, lowered
from control_plane.identity.principal import CustomerSafety, Principal, RateLimits, Scope, limits_of_test_keys

_VERSION = 6


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A key and its customer as PostgreSQL had them at `read_at_s` (Unix time). Another shape is another version."""

    version: int = _VERSION
    read_at_s: float
    key_id: UUID
    customer_id: UUID
    company_name: str
    tier: Tier
    per_minute: int
    per_day: int
    per_month: int | None
    concurrency: int
    key_per_minute: int | None
    is_active: bool
    is_revoked: bool
    expires_at_s: float | None
    safety_version: int = 0  # 0: the customer has no settings of the guard
    safety_document: str = ""
    safety_preset: str | None = None
    is_test: bool = False
    robots: frozenset[str] | None = None
    policies: frozenset[str] | None = None
    allowed_ips: tuple[str, ...] | None = None  # networks; None: from anywhere
    most_billable: int | None = None  # what the spend cap allows; None: no cap
    deadline_ms: int | None = None  # of a request that names none
    data_policy: DataPolicy = DataPolicy.STANDARD  # the customer's
    data_policy_version: int = 1
    data_consent_id: UUID | None = None
    data_keep_days: int | None = None  # None: as the policy says
    key_data_policy: DataPolicy | None = None  # the key's own; None: the customer's

    def principal(self) -> Principal:
        """Who calls, if the key may be used."""
        live = RateLimits(
            per_minute=self.per_minute, per_day=self.per_day, per_month=self.per_month, concurrency=self.concurrency
        )
        return Principal(
            customer_id=self.customer_id,
            key_id=self.key_id,
            company_name=self.company_name,
            tier=self.tier,
            limits=limits_of_test_keys(live) if self.is_test else live,
            key_per_minute=self.key_per_minute,
            safety=self._safety(),
            scope=Scope(robots=self.robots, policies=self.policies),
            is_test=self.is_test,
            most_billable=None if self.is_test else self.most_billable,
            deadline_ms=self.deadline_ms,
            data=self._data(),
        )

    def _data(self) -> DataTerms:
        """A test key's requests are not what a robot does: they are never kept for training."""
        keep_days = KEEP_DAYS[self.data_policy] if self.data_keep_days is None else self.data_keep_days
        terms = DataTerms(
            policy=self.data_policy, version=self.data_policy_version, consent_id=self.data_consent_id, keep_days=keep_days
        )
        return lowered(lowered(terms, self.key_data_policy), DataPolicy.DEBUG if self.is_test else None)

    def _safety(self) -> CustomerSafety | None:
        if not self.safety_version:
            return None
        return CustomerSafety(version=self.safety_version, document=self.safety_document, preset=self.safety_preset)

    def refusal(self, *, now_s: float) -> str | None:
        """The error code with which this key is refused at `now_s`, or None. Asked on every use, also of a cached record."""
        if self.is_revoked:
            return "revoked_key"
        if self.expires_at_s is not None and self.expires_at_s <= now_s:
            return "expired_key"
        return None if self.is_active else "inactive_customer"


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(KeyRecord)


def encode_record(record: KeyRecord) -> bytes:
    """The bytes that Redis keeps."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> KeyRecord | None:
    """The record, or None when the bytes are of another version or broken: then it is read from PostgreSQL again."""
    try:
        record = _decoder.decode(data)
    except msgspec.DecodeError:  # ValidationError is one
        return None
    return record if record.version == _VERSION else None
