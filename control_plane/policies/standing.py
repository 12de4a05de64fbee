"""What operators have decided, as one value: which policies are on, for whom, in which version, and which replicas drain.

Read from PostgreSQL in one statement, so that it is of one moment; travels to Redis as msgpack, for processes that cannot reach
PostgreSQL. It is small (a row per exception to the rule), so every process holds all of it. Knows no bundle and no request.
"""

from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.db import database_errors

_REVISION = text("SELECT revision FROM fleet_revision")
_ALL = text("""
    SELECT f.revision, f.bundles,
        (SELECT coalesce(json_agg(p), '[]')::text FROM policy_states p) AS policies,
        (SELECT coalesce(json_agg(json_build_array(policy, version)), '[]')::text FROM disabled_policy_versions) AS disabled,
        (SELECT coalesce(json_agg(json_build_array(customer_id, policy)), '[]')::text FROM policy_entitlements) AS entitled,
        (SELECT coalesce(json_agg(json_build_array(customer_id, policy, version)), '[]')::text FROM policy_pins) AS pins,
        (SELECT coalesce(json_agg(address), '[]')::text FROM draining_replicas) AS draining
    FROM fleet_revision f
""")


class PolicyStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One policy. `default_version` None: the one in the policy's own folder."""

    policy: str
    is_enabled: bool = True
    is_restricted: bool = False
    is_default: bool = False
    default_version: int | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, at one moment. `revision` grows with every change, `bundles` with every wish to read the bundles again."""

    revision: int = 0
    bundles: int = 0
    policies: dict[str, PolicyStanding] = {}
    disabled: frozenset[tuple[str, int]] = frozenset()
    entitled: frozenset[tuple[UUID, str]] = frozenset()
    pins: dict[str, dict[str, int]] = {}  # by the customer's id in hex, then by policy
    draining: frozenset[str] = frozenset()

    def of(self, policy: str) -> PolicyStanding:
        """What holds for this policy."""
        return self.policies.get(policy) or PolicyStanding(policy=policy)

    @property
    def default(self) -> str | None:
        """The policy for requests that name none; None: the deployment's own."""
        return next((one.policy for one in self.policies.values() if one.is_default), None)

    def may_use(self, customer_id: UUID, policy: str) -> bool:
        """Whether the policy is on, and for this customer."""
        found = self.policies.get(policy)
        if found is None:
            return True
        return found.is_enabled and (not found.is_restricted or (customer_id, policy) in self.entitled)

    def pin(self, customer_id: UUID, policy: str) -> int | None:
        """The version that this customer is held to."""
        return self.pins[customer_id.hex].get(policy) if customer_id.hex in self.pins else None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Standing)


def encode_standing(standing: Standing) -> bytes:
    """The bytes that Redis keeps."""
    return _encoder.encode(standing)


def decode_standing(data: bytes) -> Standing | None:
    """The value, or None when the bytes are broken or of another release."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        return None


async def read_revision(engine: AsyncEngine) -> int:
    """How often anything has changed: asked often, because it is cheap. Raises DatabaseAwayError."""
    with database_errors():
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            return int(await connection.scalar(_REVISION) or 0)


async def read_standing(engine: AsyncEngine) -> Standing:
    """As PostgreSQL has it now. Raises DatabaseAwayError."""
    with database_errors():
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            return await standing_in(connection)


async def standing_in(connection: AsyncConnection) -> Standing:
    """As this transaction sees it."""
    row = (await connection.execute(_ALL)).one()
    pins: dict[str, dict[str, int]] = {}
    for customer_id, policy, version in _json(row.pins, list[tuple[UUID, str, int]]):
        pins.setdefault(customer_id.hex, {})[policy] = version
    return Standing(
        revision=row.revision,
        bundles=row.bundles,
        policies={one.policy: one for one in _json(row.policies, list[PolicyStanding])},
        disabled=frozenset(_json(row.disabled, list[tuple[str, int]])),
        entitled=frozenset(_json(row.entitled, list[tuple[UUID, str]])),
        pins=pins,
        draining=frozenset(_json(row.draining, list[str])),
    )


def _json(data: str, kind: Any) -> Any:
    return msgspec.json.decode(data, type=kind)
