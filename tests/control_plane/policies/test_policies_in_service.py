"""Decisions about policies and replicas, made with the operators' verbs, in the whole application over real servers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from control_plane.errors import ApiError
from control_plane.keys.verbs import IssuedKey, Stores
from control_plane.policies.roll_call import read_reports
from control_plane.policies.verbs import (
    named,
    pin,
    reload_bundles,
    set_default,
    set_enabled,
    set_entitled,
    set_restricted,
)
from control_plane.settings import Settings
from tests.control_plane.eventually import eventually
from tests.control_plane.own_servers import OwnServer, own_triton
from tests.control_plane.policies.bundles import put_beside, repository_with
from tests.control_plane.whole_app import MINIMAL, new_key, post, running, settings_of, stores, variables


class House:
    """Two applications (as two API processes) over the same stores, and an operator's stores."""

    def __init__(self, settings: Settings, clients: list[httpx.AsyncClient], operator: Stores, key: IssuedKey) -> None:
        self.settings, self.clients, self.operator, self.key = settings, clients, operator, key

    async def asked(self, client: httpx.AsyncClient, model: str | None = None) -> tuple[int, str]:
        """Status, and the version or the error code."""
        body: dict[str, Any] = MINIMAL if model is None else {**MINIMAL, "model": model}
        answer = await post(client, self.key, body)
        told = answer.json()
        return answer.status_code, told["model_version"] if answer.status_code == 200 else told["error"]["code"]

    async def everywhere(self, expected: tuple[int, str], model: str | None = None) -> None:
        """Waits until both applications answer so."""

        async def is_so() -> bool:
            return all([await self.asked(client, model) == expected for client in self.clients])

        await eventually(is_so)

    async def models(self) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.key.text}"}
        found: list[dict[str, Any]] = (await self.clients[0].get("/v1/models", headers=headers)).json()["models"]
        return found

    async def customer_id(self) -> Any:
        async with self.operator.engine.connect() as connection:
            return await connection.scalar(text("SELECT customer_id FROM api_keys WHERE id = :id"), {"id": self.key.id})

    async def audited(self) -> list[tuple[str, str]]:
        async with self.operator.engine.connect() as connection:
            rows = await connection.execute(
                text("SELECT action, target FROM audit_log WHERE action ~ '^(policy|replica)' ORDER BY id")
            )
            return [tuple(row) for row in rows]


@asynccontextmanager
async def house_over(settings: Settings) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(running(settings)) for _ in range(2)]
        operator = await stack.enter_async_context(stores(settings))
        yield House(settings, clients, operator, await new_key(settings))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return repository_with(tmp_path / "models", 2)


@pytest.fixture
async def own(repository: Path, triton_venv: Path) -> AsyncIterator[OwnServer]:
    async with own_triton(triton_venv, repository) as server:
        yield server


@pytest.fixture
def settings(database_url: str, clean_redis_url: str, repository: Path, own: OwnServer, tmp_path: Path) -> Settings:
    environment = variables(database_url=database_url, redis_url=clean_redis_url, triton_url=own.url, spool=tmp_path / "spool")
    return settings_of(environment, model_repository=str(repository))


async def test_two_versions_side_by_side_and_everything_an_operator_decides(
    settings: Settings, repository: Path, own: OwnServer
) -> None:
    async with house_over(settings) as house:
        operator, customer_id = house.operator, await house.customer_id()
        await house.everywhere((200, "1"))
        await house.everywhere((200, "2"), "tabletop@2")
        assert [(one["id"], one["version"], one["versions"]) for one in await house.models()] == [("tabletop", "1", ["1", "2"])]
        await set_default(operator, named("tabletop@2"))
        await house.everywhere((200, "2"))
        await pin(operator, named("tabletop@1"), customer_id)
        await house.everywhere((200, "1"))
        await pin(operator, named("tabletop"), customer_id)
        await house.everywhere((200, "2"))
        await set_enabled(operator, named("tabletop@2"), is_enabled=False)
        await house.everywhere((404, "unknown_model"), "tabletop@2")
        await house.everywhere((503, "policy_unavailable"))
        await set_default(operator, named("tabletop@1"))
        await house.everywhere((200, "1"))
        await set_restricted(operator, named("tabletop"), is_restricted=True)
        await house.everywhere((404, "unknown_model"))
        assert await house.models() == []
        await set_entitled(operator, named("tabletop"), customer_id, is_entitled=True)
        await house.everywhere((200, "1"))
        await set_enabled(operator, named("tabletop"), is_enabled=False)
        await house.everywhere((404, "unknown_model"))
        with pytest.raises(ApiError, match=r"no running process serves tabletop@9; they serve tabletop@1, tabletop@2"):
            await set_default(operator, named("tabletop@9"))
        assert [action for action, _ in await house.audited()] == [
            *("policy.default", "policy.pin", "policy.unpin", "policy.disable", "policy.default"),
            *("policy.restrict", "policy.entitle", "policy.disable"),
        ]
        await _reloads(house, repository, own)


async def _reloads(house: House, repository: Path, own: OwnServer) -> None:
    """A new bundle needs Triton to have it, a broken one harms nobody, and both are told to the operator."""
    await set_enabled(house.operator, named("tabletop"), is_enabled=True)
    await set_restricted(house.operator, named("tabletop"), is_restricted=False)
    place = put_beside(repository, 3)
    assert await _refusals(house) == {"tabletop.3: Triton does not answer for it (not_loaded); has it been restarted?"}
    await house.everywhere((404, "unknown_model"), "tabletop@3")
    own.kill()
    await own.start()
    assert await _refusals(house) == {None}
    await house.everywhere((200, "3"), "tabletop@3")
    (place / "manifest.json").write_text("{")
    (refused,) = await _refusals(house)
    assert refused is not None
    assert "tabletop.3" in refused
    await house.everywhere((200, "3"), "tabletop@3")
    await house.everywhere((200, "1"))


async def _refusals(house: House) -> set[str | None]:
    moved = await reload_bundles(house.operator)

    async def all_followed() -> bool:
        reports = await read_reports(house.operator.redis)
        return len(reports) == 2 and all(report.revision >= moved.standing.revision for report in reports)

    await eventually(all_followed)
    return {report.refusal for report in await read_reports(house.operator.redis)}
