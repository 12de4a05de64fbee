"""A running application with operators and a customer, over real PostgreSQL and Valkey (inference is not asked for anything)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.keys.verbs import Stores
from control_plane.operators.roles import Role
from control_plane.operators.verbs import create_operator
from control_plane.settings import Settings
from tests.control_plane.whole_app import running, settings_of, stores, variables


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """The service and who may call it."""

    client: httpx.AsyncClient
    stores: Stores
    keys: dict[Role, str]
    settings: Settings

    async def ask(self, method: str, path: str, *, role: Role = Role.ADMIN, **options: Any) -> httpx.Response:
        """One call by an operator of that role."""
        headers = {"Authorization": f"Bearer {self.keys[role]}"}
        return await self.client.request(method, f"/admin/v1{path}", headers=headers, **options)


@pytest.fixture
def office_settings(database_url: str, clean_redis_url: str, tmp_path: Path) -> Settings:
    """Settings of a service without inference."""
    environment = variables(database_url=database_url, redis_url=clean_redis_url, triton_url="127.0.0.1:1", spool=tmp_path / "s")
    return settings_of(environment, operator_email="ops@vla.example", public_url="https://api.vla.example")


@pytest.fixture
async def office(office_settings: Settings) -> AsyncIterator[Office]:
    """One key of each role."""
    async with stores(office_settings) as there, running(office_settings) as client:
        keys = {role: (await create_operator(there, name=role.value, role=role, expires_in_days=None)).text for role in Role}
        yield Office(client=client, stores=there, keys=keys, settings=office_settings)
