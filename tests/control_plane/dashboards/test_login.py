"""The user of Grafana sees the dashboards' views and nothing else, whatever it asks; the command touches no other role."""

import re
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from billing.money import CURRENCIES, as_decimal
from control_plane.dashboards.login import READER, SCHEMA, Login, let_in, login_of
from control_plane.errors import ApiError
from control_plane.usage.request_id import instant_of, mint_at
from deploy.embedded.postgres import Cluster
from tests.conftest import a_database
from tests.control_plane.invoices.making import a_customer, request_at

_PRIVATE = "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')"
_VIEWS = "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'dashboards'::regnamespace AND c.relkind = 'v' ORDER BY 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One database, by the address of each who comes there."""

    owner: str
    superuser: str

    def reader(self, login: Login) -> str:
        """As Grafana."""
        return self.owner.replace(re.sub(r".*//(.*)@.*", r"\1", self.owner), f"{login.name}:{login.password}")


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[Place]:
    """A migrated database of these tests' own."""
    with a_database(cluster) as url:
        yield Place(owner=url, superuser=url.replace("//vlaapi:", "//postgres:"))


@pytest.fixture
async def superuser(place: Place) -> AsyncIterator[asyncpg.Connection]:
    """Also removes the logins that a test made: roles belong to the whole cluster."""
    connection = await asyncpg.connect(place.superuser)
    yield connection
    for name in await connection.fetch("SELECT rolname FROM pg_roles WHERE rolname LIKE 'test\\_%'"):
        await connection.execute(f"DROP OWNED BY {name[0]}")
        await connection.execute(f"DROP ROLE {name[0]}")
    await connection.close()


def a_login(**changes: str) -> Login:
    """Valid, and nobody yet."""
    return login_of(**{"name": f"test_{secrets.token_hex(4)}", "password": secrets.token_hex(16)} | changes)


@pytest.fixture
async def reader(place: Place, superuser: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the user that the command made."""
    login = a_login()
    assert await let_in(place.superuser, login)
    connection = await asyncpg.connect(place.reader(login))
    yield connection
    await connection.close()


async def test_the_reader_sees_every_view_of_the_dashboards(reader: asyncpg.Connection, place: Place) -> None:
    owner = await asyncpg.connect(place.owner)
    began = datetime.now(UTC) - timedelta(days=40)
    customer = await a_customer(owner, created_at=began)
    await request_at(owner, customer, datetime.now(UTC) - timedelta(minutes=1))
    await owner.close()
    views = [row[0] for row in await reader.fetch(_VIEWS)]
    assert "customers" in views
    for view in views:
        await reader.fetch(f"SELECT * FROM {SCHEMA}.{view}")  # noqa: S608 -- names from the catalogue
    assert await reader.fetchval("SELECT requests FROM customers_last_hour WHERE customer_id = $1", customer) == 1
    assert await reader.fetchval("SELECT count(*) FROM revenue_months") >= 2


async def test_the_reader_sees_no_table_and_no_view_of_the_service_itself(reader: asyncpg.Connection) -> None:
    names = [row[0] for row in await reader.fetch(_PRIVATE)]
    assert len(names) > 30
    assert {"api_keys", "mails", "webhook_endpoints", "inference_logs", "customers"} <= set(names)
    await reader.execute("SET search_path = public")
    for name in names:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.fetch(f"SELECT * FROM public.{name} LIMIT 1")  # noqa: S608 -- names from the catalogue


async def test_no_view_shows_an_address_a_key_an_instruction_or_an_action(reader: asyncpg.Connection) -> None:
    columns = await reader.fetch(
        "SELECT attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE c.relnamespace = 'dashboards'::regnamespace"
    )
    shown = {row[0] for row in columns}
    hidden = {"email", "digest", "key_id", "start", "instruction", "action", "action_chunk", "raw_action", "session_id", "secret"}
    assert shown & hidden == set()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO dashboards.customers (company_name) VALUES ('x')",
        "DELETE FROM dashboards.usage_days",
        "CREATE TABLE dashboards.mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "CREATE FUNCTION dashboards.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT * FROM public.customers_at(now())",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('postgresql.conf')",
        "SET ROLE vlaapi",
    ],
)
async def test_the_reader_changes_nothing_even_when_it_leaves_read_only_mode(reader: asyncpg.Connection, statement: str) -> None:
    await reader.execute("SET default_transaction_read_only = off")
    with pytest.raises(asyncpg.PostgresError) as refused:
        await reader.execute(statement)
    assert not isinstance(refused.value, asyncpg.PostgresSyntaxError)


async def test_a_question_that_takes_too_long_is_ended_by_the_server(reader: asyncpg.Connection) -> None:
    assert await reader.fetchval("SHOW statement_timeout") == "10s"
    assert await reader.fetchval("SHOW default_transaction_read_only") == "on"
    assert await reader.fetchval("SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user") == 10


async def test_asked_again_it_changes_the_password(place: Place, superuser: asyncpg.Connection) -> None:
    login = a_login()
    assert await let_in(place.superuser, login)
    again = a_login(name=login.name)
    assert not await let_in(place.superuser, again)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(place.reader(login))
    await (await asyncpg.connect(place.reader(again))).close()


async def test_it_never_takes_over_a_role_that_is_somebody_else(place: Place, superuser: asyncpg.Connection) -> None:
    plain = f"test_{secrets.token_hex(4)}"
    await superuser.execute(f"CREATE ROLE {plain} LOGIN")
    for name in ("vlaapi", "postgres", plain):
        with pytest.raises(ApiError, match="somebody else"):
            await let_in(place.superuser, a_login(name=name))


async def test_who_may_not_create_roles_is_told_what_to_do(place: Place) -> None:
    with pytest.raises(ApiError, match="--as"):
        await let_in(place.owner, a_login())


@pytest.mark.parametrize("name", ["Grafana", "a b", "", 'x"; DROP', "pg_reader", READER, "ä", "x" * 64])
def test_a_name_that_is_no_plain_name_is_refused(name: str) -> None:
    with pytest.raises(ApiError) as refused:
        a_login(name=name)
    assert refused.value.param == "name"


@pytest.mark.parametrize("password", ["", "short", "with a space in it", "mit-Umlaut-ä-darin-", "x" * 15])
def test_a_password_that_is_short_or_not_plain_is_refused_and_not_repeated(password: str) -> None:
    with pytest.raises(ApiError) as refused:
        a_login(password=password)
    assert refused.value.param == "password"
    assert not password or password not in refused.value.message


async def test_the_password_is_not_kept_in_the_clear(place: Place, superuser: asyncpg.Connection) -> None:
    login = a_login()
    await let_in(place.superuser, login)
    kept = await superuser.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = $1", login.name)
    assert kept.startswith("SCRAM-SHA-256$4096:")
    assert login.password not in kept


async def test_the_dashboards_say_of_customers_what_the_service_says(place: Place, reader: asyncpg.Connection) -> None:
    owner = await asyncpg.connect(place.owner)
    for tier in ("free", "pro", "enterprise"):
        customer = await a_customer(owner, tier=tier, company_name=tier)
        await request_at(owner, customer, datetime.now(UTC))
    columns = "company_name, tier, is_active, monthly_usage, monthly_quota, created_at"
    ours = await owner.fetch(f"SELECT {columns} FROM public.customers ORDER BY 1, 6")  # noqa: S608
    theirs = await reader.fetch(f"SELECT {columns} FROM customers ORDER BY 1, 6")  # noqa: S608
    await owner.close()
    assert ours == theirs
    assert len(ours) >= 3


async def test_amounts_have_the_decimals_of_their_currency(reader: asyncpg.Connection) -> None:
    for currency in CURRENCIES:
        assert await reader.fetchval("SELECT dashboards.amount(123456, $1)", currency) == as_decimal(123456, currency)


async def test_the_first_id_of_an_instant_is_below_every_id_of_it(reader: asyncpg.Connection) -> None:
    id_ = mint_at(datetime.now(UTC))
    bounds = await reader.fetchrow(
        "SELECT dashboards.id_at($1) AS first, dashboards.id_at($1 + interval '1 ms') AS after", instant_of(id_)
    )
    assert bounds["first"] <= id_ < bounds["after"]
