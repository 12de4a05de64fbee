"""What an operator may do, as types: a function that takes an `Admin` cannot be handed a `Viewer`, and mypy says so too.

viewer sees everything but changes nothing · support also changes what helps a customer today (keys, replays, sign-ups) · admin
also changes what a customer pays for and may use. Knows no store.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never
from uuid import UUID

from control_plane.identity.public_id import public_id


class Role(StrEnum):
    """As keys carry it, from less to more."""

    VIEWER = "viewer"
    SUPPORT = "support"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """An authenticated operator."""

    id: UUID
    name: str

    @property
    def actor(self) -> str:
        """As the audit log has it."""
        return f"operator {public_id('opr', self.id)} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Support(Viewer):
    """One who may help customers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin(Support):
    """One who may do everything."""


def operator_of(role: Role, *, id_: UUID, name: str) -> Viewer:
    """The operator as the type that their role is."""
    match role:
        case Role.VIEWER:
            return Viewer(id=id_, name=name)
        case Role.SUPPORT:
            return Support(id=id_, name=name)
        case Role.ADMIN:
            return Admin(id=id_, name=name)
        case _:
            assert_never(role)


def role_of(kind: type[Viewer]) -> Role:
    """The least role that a signature asks for."""
    return {Viewer: Role.VIEWER, Support: Role.SUPPORT, Admin: Role.ADMIN}[kind]
