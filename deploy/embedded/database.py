"""The step before the control plane's processes: the schema is brought up to date, and the demo customer has a key that works.

Runs once per start as a process of its own (`python -m deploy.embedded.database STATE_DIR`), so that the supervisor loads none of
the control plane's stores. A demo key that still works is kept; else a new one is made, and older ones are revoked.
"""

import asyncio
import sys
import time
from pathlib import Path

from billing.tiers import Tier
from control_plane.customers.verbs import CustomerSummary, NewCustomer, create_customer, list_customers, set_active
from control_plane.db import DatabaseAwayError, SchemaBusyError, create_engine, database_errors
from control_plane.identity.api_key import digest_of
from control_plane.identity.lookup import look_up
from control_plane.identity.public_id import public_id
from control_plane.keys.verbs import NewKey, Stores, create_key, list_keys, revoke_key
from control_plane.migrations import upgrade
from control_plane.redis import create_redis
from control_plane.settings import Settings, load_settings
from deploy.embedded.demo import Demo, kept_demo, write_demo

COMPANY = "Demo Robotics"
EMAIL = "demo@example.com"
KEY_NAME = "demo"
_PATIENCE_S = 30.0


def main(root: Path) -> None:
    """Called once. Ends the process with one line when the database is away or its tables are held."""
    settings = load_settings()
    try:
        with database_errors():
            upgrade(str(settings.database_url))
        demo = asyncio.run(_with_stores(settings, kept_demo(root)))
    except DatabaseAwayError as error:
        sys.exit(f"the database cannot be reached: {error}")
    except SchemaBusyError as error:
        sys.exit(str(error))
    write_demo(root, demo)


async def _with_stores(settings: Settings, kept: Demo | None) -> Demo:
    engine = create_engine(str(settings.database_url), pool_size=1, timeout_s=_PATIENCE_S)
    redis = create_redis(str(settings.redis_url), timeout_s=settings.redis_timeout_s)
    try:
        return await demo_customer(
            Stores(engine=engine, redis=redis, pepper=settings.key_pepper.get_secret_value().encode()), kept
        )
    finally:
        await redis.aclose()
        await engine.dispose()


async def demo_customer(stores: Stores, kept: Demo | None) -> Demo:
    """The demo customer with a key that works: the kept one if it still does."""
    if kept is not None and await _works(stores, kept.key):
        return kept
    customer = await _find(stores)
    if customer is None:
        created = await create_customer(
            stores, NewCustomer(company_name=COMPANY, email=EMAIL, tier=Tier.PRO), NewKey(name=KEY_NAME)
        )
        return Demo(customer=public_id("cus", created.customer.id), key=created.key.text)
    await _revoke_all(stores, customer)
    if not customer.is_active:
        await set_active(stores, customer.id, is_active=True)
    issued = await create_key(stores, customer.id, NewKey(name=KEY_NAME))
    return Demo(customer=public_id("cus", customer.id), key=issued.key.text)


async def _works(stores: Stores, key: str) -> bool:
    record = await look_up(stores.engine, digest_of(key, pepper=stores.pepper))
    return record is not None and record.refusal(now_s=time.time()) is None


async def _find(stores: Stores) -> CustomerSummary | None:
    return next((customer for customer in await list_customers(stores.engine) if customer.email.lower() == EMAIL), None)


async def _revoke_all(stores: Stores, customer: CustomerSummary) -> None:
    """Before the customer is activated again: a key that somebody was shown once must not come back to life with it."""
    for key in await list_keys(stores.engine, customer.id):
        if key.revoked_at is None:
            await revoke_key(stores, key.id)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
