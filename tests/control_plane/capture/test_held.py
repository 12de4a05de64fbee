"""Which tables are about a customer: every one is found, or said here to be about nobody."""

from sqlalchemy import text

from control_plane.capture.held import held_of
from tests.control_plane.capture.conftest import House

# The dead letters' customers stand inside their bytes: `capture.letters` finds them.
ABOUT_NOBODY = {"alembic_version", "closed_months", "cost_rates", "datasets", "disabled_policy_versions", "draining_replicas"}
ABOUT_NOBODY |= {"fleet_revision", "invoice_sequences", "operator_keys", "policy_states", "price_versions", "revenue_refreshes"}
ABOUT_NOBODY |= {"tier_quotas", "usage_archive", "usage_dead_letters"}
TABLES = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
)


async def test_every_table_is_about_a_customer_or_known_to_be_about_nobody(house: House) -> None:
    async with house.engine.connect() as connection:
        found = await held_of(connection)
        tables = set(await connection.scalars(text(TABLES)))
    assert tables - set(found) == ABOUT_NOBODY


async def test_a_new_room_is_found_by_its_column_or_by_what_it_refers_to(house: House) -> None:
    await house.execute("CREATE TABLE tickets (id int PRIMARY KEY, customer_id uuid NOT NULL)")
    await house.execute("CREATE TABLE ticket_notes (ticket_id int REFERENCES tickets (id), words text)")
    async with house.engine.connect() as connection:
        found = await held_of(connection)
    assert found["tickets"] == "customer_id = :id"
    assert found["ticket_notes"] == '"ticket_id" IN (SELECT "id" FROM "tickets" WHERE customer_id = :id)'
