"""The operators' door: who gets in, with which role, and that neither kind of key opens the other's doors."""

import inspect
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update
from starlette.routing import Route

from control_plane.endpoints.endpoint import Endpoint
from control_plane.operators.operator_key import mint_operator_key
from control_plane.operators.roles import Admin, Role, Support, Viewer
from control_plane.operators.tables import operator_keys
from control_plane.operators.verbs import create_operator, list_operators, revoke_operator
from control_plane.protocols.desk import OPERATOR_CALLS_PER_MINUTE
from control_plane.protocols.operator_endpoints import OPERATOR_ENDPOINTS
from tests.conftest import free_port
from tests.control_plane.fakes import House
from tests.control_plane.operators.conftest import Office
from tests.control_plane.whole_app import new_key, running, settings_of, variables


def code(response: object) -> str:
    """The error's code."""
    return str(response.json()["error"]["code"])  # type: ignore[attr-defined]  # an httpx.Response


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_gets_in_and_is_known(office: Office, role: Role) -> None:
    me = (await office.ask("GET", "/me", role=role)).json()
    assert (me["role"], me["name"]) == (role.value, role.value)


async def test_without_a_good_key_nobody_gets_in(office: Office) -> None:
    created = await create_operator(office.stores, name="gone", role=Role.ADMIN, expires_in_days=None)
    await revoke_operator(office.stores, created.operator.id)
    old = await create_operator(office.stores, name="old", role=Role.ADMIN, expires_in_days=1)
    async with office.stores.engine.begin() as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        await connection.execute(update(operator_keys).where(operator_keys.c.name == "old").values(expires_at=past))
    cases = {
        None: "missing_key",
        "Bearer ": "missing_key",
        "Basic x": "missing_key",
        "Bearer vla_admin_x": "malformed_key",
        f"Bearer {mint_operator_key()}": "unknown_key",
        f"Bearer {created.text}": "revoked_key",
        f"Bearer {old.text}": "expired_key",
    }
    for authorization, expected in cases.items():
        headers = {} if authorization is None else {"Authorization": authorization}
        response = await office.client.get("/admin/v1/me", headers=headers)
        assert (response.status_code, code(response)) == (401, expected)
        assert "www-authenticate" in response.headers


async def test_a_customers_key_opens_nothing_there_and_an_operators_nothing_else(office: Office) -> None:
    key = await new_key(office.settings)
    customer, operator = {"Authorization": f"Bearer {key.text}"}, {"Authorization": f"Bearer {office.keys[Role.ADMIN]}"}
    for path in {endpoint.path for endpoint in OPERATOR_ENDPOINTS}:
        response = await office.client.request("GET", path, headers=customer)
        assert response.status_code in {401, 405}
    for path in ("/v1/models", "/v1/robots", "/v1/safety/settings"):
        assert (await office.client.get(path, headers=operator)).status_code == 401
        assert (await office.client.get(path, headers=customer)).status_code == 200


async def test_a_role_that_does_not_suffice_is_told_before_anything_is_looked_up(office: Office) -> None:
    for endpoint in OPERATOR_ENDPOINTS:
        needed: type[Viewer] = endpoint.shape.by
        for role, kind in ((Role.VIEWER, Viewer), (Role.SUPPORT, Support)):
            if not issubclass(kind, needed):
                path = endpoint.path.removeprefix("/admin/v1").replace("{", "").replace("}", "")
                response = await office.ask(endpoint.method, path, role=role)
                assert (response.status_code, code(response)) == (403, "operator_role"), endpoint.path


def test_every_operation_says_who_may_call_it_and_changes_ask_for_more_than_looking() -> None:
    for endpoint in OPERATOR_ENDPOINTS:
        assert endpoint.path.startswith("/admin/v1/")
        assert issubclass(endpoint.shape.by, Viewer)
        is_looking = endpoint.method == "GET" or endpoint.name.startswith("preview_")
        assert is_looking or issubclass(endpoint.shape.by, Support), endpoint.name


def test_a_function_that_does_not_say_who_may_call_it_is_no_endpoint() -> None:
    async def anybody() -> None:
        """Nobody is named."""

    with pytest.raises(TypeError, match="by"):
        _ = Endpoint(method="GET", path="/admin/v1/x", name="x", summary="x", serve=anybody).shape


async def test_a_key_that_calls_too_often_waits(office: Office) -> None:
    viewer = next(o for o in await list_operators(office.stores.engine) if o.role is Role.VIEWER)
    await office.stores.redis.set(f"vla:window:operators:{viewer.id.hex}", OPERATOR_CALLS_PER_MINUTE, ex=60)
    response = await office.ask("GET", "/me", role=Role.VIEWER)
    assert (response.status_code, code(response)) == (429, "minute_limit")
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert (await office.ask("GET", "/me")).status_code == 200


async def test_without_redis_operators_still_get_in_and_without_postgres_nobody(office: Office, database_url: str) -> None:
    environment = {f"VLA_{name.upper()}": str(value) for name, value in _given(office).items()}
    headers = {"Authorization": f"Bearer {office.keys[Role.ADMIN]}"}
    async with running(settings_of(environment, redis_url=f"redis://127.0.0.1:{free_port().number}/0")) as client:
        assert (await client.get("/admin/v1/me", headers=headers)).status_code == 200
    away = settings_of(environment, database_url=f"postgresql://nobody:x@127.0.0.1:{free_port().number}/none")
    async with running(away) as client:
        response = await client.get("/admin/v1/me", headers=headers)
    assert (response.status_code, code(response)) == (503, "store_unavailable")


def _given(office: Office) -> dict[str, str]:
    settings = office.settings
    plain = variables(
        database_url=str(settings.database_url),
        redis_url=str(settings.redis_url),
        triton_url="127.0.0.1:1",
        spool=settings.spool_dir,
    )
    return {name.removeprefix("VLA_").lower(): value for name, value in plain.items()}


async def test_what_is_not_understood_is_refused_by_name(office: Office) -> None:
    cases = {
        "/audit?limit=0": "limit",
        "/audit?limit=x": "limit",
        "/audit?limit=201": "limit",
        "/audit?cursor=nonsense": "cursor",
        "/audit?customer=nonsense": "customer",
        "/audit?colour=red": "colour",
        "/audit?limit=1&limit=2": "query",
    }
    for path, param in cases.items():
        response = await office.ask("GET", path)
        assert (response.status_code, response.json()["error"]["param"]) == (422, param), path


async def test_the_audit_log_is_read_in_pages_and_names_the_command_line(office: Office) -> None:
    first = (await office.ask("GET", "/audit?limit=2")).json()
    second = (await office.ask("GET", f"/audit?limit=2&cursor={first['next_cursor']}")).json()
    lines = first["data"] + second["data"]
    assert [line["action"] for line in lines] == ["operator.create"] * 3
    assert second["next_cursor"] is None
    assert all(key not in str(lines) for key in office.keys.values())


async def test_last_use_is_kept_and_the_answer_is_for_nobodys_cache(office: Office) -> None:
    response = await office.ask("GET", "/me")
    assert response.headers["cache-control"] == "no-store"
    used = {operator.role: operator.last_used_at for operator in await list_operators(office.stores.engine)}
    assert used[Role.ADMIN] is not None
    assert used[Role.VIEWER] is None


async def test_the_description_is_for_operators_and_lists_every_operation(office: Office) -> None:
    assert (await office.client.get("/admin/v1/openapi.json")).status_code == 401
    document = (await office.ask("GET", "/openapi.json", role=Role.VIEWER)).json()
    described = {(path, method.upper()) for path, ways in document["paths"].items() for method in ways}
    routes = [route for route in House().app().routes if isinstance(route, Route) and route.path.startswith("/admin/v1/")]
    ours = {(route.path, method) for route in routes for method in route.methods or () if method != "HEAD"}
    assert ours - {("/admin/v1/openapi.json", "GET")} <= described
    assert {(endpoint.path, endpoint.method) for endpoint in OPERATOR_ENDPOINTS} <= described
    names = [way["operationId"] for ways in document["paths"].values() for way in ways.values()]
    assert len(names) == len(set(names))


async def test_an_admin_is_everything_that_a_viewer_is() -> None:
    assert [kind.__name__ for kind in inspect.getmro(Admin)[:3]] == ["Admin", "Support", "Viewer"]
