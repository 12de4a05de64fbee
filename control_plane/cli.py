"""The commands of the control plane: `python -m control_plane.cli customers | keys | safety | usage | mails | migrate | …`.

Also `vlaapi …`. Composition root: it alone reads settings and builds the stores that commands work on. Every refusal is one line
on stderr that names the field: exit status 2 when the person must change something, 1 when the service is at fault.
"""

import getpass
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from control_plane.audit.record import By
from control_plane.backups.commands import create_commands as create_backup_commands
from control_plane.backups.places import Places
from control_plane.capture.commands import create_data_commands, create_storage_commands
from control_plane.customers.commands import commands as customers
from control_plane.dashboards.commands import create_commands as create_dashboard_commands
from control_plane.datasets.commands import add_build
from control_plane.db import DatabaseAwayError, SchemaBusyError, create_engine, database_errors
from control_plane.errors import ApiError
from control_plane.guarding.commands import commands as safety
from control_plane.invoices.commands import create_commands as create_invoice_commands
from control_plane.invoices.plan_commands import add_to as add_plan_commands
from control_plane.invoices.seller import Seller, load_seller
from control_plane.keys.commands import commands as keys
from control_plane.keys.verbs import Stores
from control_plane.local_service import service, store_settings
from control_plane.mail.commands import commands as mails
from control_plane.mail.letters import Letterhead, letterhead_of
from control_plane.operators.commands import audit_commands as audit
from control_plane.operators.commands import commands as operators
from control_plane.policies.commands import policies, replicas
from control_plane.rebuild.commands import create_commands as create_redis_commands
from control_plane.redis import create_redis
from control_plane.revenue.commands import create_billing_commands, create_revenue_commands
from control_plane.settings import SettingsError, StoreSettings, load_settings, variable
from control_plane.signups.commands import create_signup_commands
from control_plane.usage.commands import create_commands as create_usage_commands
from control_plane.webhooks.commands import commands as webhooks


def _database_url() -> str:
    return str(store_settings(os.environ).database_url)


def _redis_url() -> str:
    return str(store_settings(os.environ).redis_url)


def _objects_url() -> str | None:
    url = store_settings(os.environ).object_store_url
    return None if url is None else url.get_secret_value()


def backup_places() -> Places:
    """Where backups come from and go to. Raises SettingsError naming what is not set."""
    settings = store_settings(os.environ)
    objects_url, key = settings.backups
    return Places(database_url=str(settings.database_url), objects_url=objects_url, key=key, programs=settings.postgres_programs)


app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
app.add_typer(customers, name="customers")
app.add_typer(keys, name="keys")
app.add_typer(safety, name="safety")
app.add_typer(policies, name="policies")
app.add_typer(replicas, name="replicas")
app.add_typer(create_usage_commands(_database_url, _objects_url, _redis_url), name="usage")
app.add_typer(create_backup_commands(backup_places), name="backup")
app.add_typer(create_redis_commands(_database_url, _redis_url), name="redis")
app.add_typer(mails, name="mails")
data = create_data_commands(_objects_url)
add_build(data, _objects_url)
app.add_typer(data, name="data")
app.add_typer(create_storage_commands(_objects_url), name="storage")
app.add_typer(create_revenue_commands(_database_url), name="revenue")
app.add_typer(create_billing_commands(_database_url), name="billing")
app.add_typer(create_dashboard_commands(_database_url), name="dashboards")
app.add_typer(operators, name="operators")
app.add_typer(audit, name="audit")
add_plan_commands(customers)
app.add_typer(create_invoice_commands(lambda: _seller()), name="invoices")
app.add_typer(webhooks, name="webhooks")
app.add_typer(create_signup_commands(lambda: _letterhead(store_settings(os.environ))), name="signups")


@app.callback()
def prepare(ctx: typer.Context) -> None:
    """Operate the service: customers, keys, safety limits, usage, the schema and the recorder."""
    ctx.obj = open_stores


@app.command()
def migrate() -> None:
    """Bring the database schema up to date."""
    from control_plane.migrations import upgrade  # Alembic is slow to load, and only this command needs it

    settings = load_settings(service(os.environ))
    with database_errors():
        upgrade(str(settings.database_url))
    typer.echo("The schema is up to date.")


@app.command()
def worker(
    only: Annotated[list[str] | None, typer.Option("--only", help="This duty and no other; again for more.")] = None,
) -> None:
    """Record usage events until told to stop."""
    from control_plane.worker import run_worker  # as above

    run_worker(load_settings(), only=only or ())


@asynccontextmanager
async def open_stores() -> AsyncIterator[Stores]:
    """The stores of the service that this environment, or else the one started by `make up`, describes."""
    settings = store_settings(os.environ)
    engine = create_engine(str(settings.database_url), pool_size=1, timeout_s=settings.database_timeout_s)
    redis = create_redis(str(settings.redis_url), timeout_s=settings.redis_timeout_s)
    try:
        pepper = settings.key_pepper.get_secret_value().encode()
        yield Stores(engine=engine, redis=redis, pepper=pepper, by=By(actor=f"command line {_user()}"))
    finally:
        await redis.aclose()
        await engine.dispose()


def _letterhead(settings: StoreSettings) -> tuple[Letterhead, bool]:
    letterhead = letterhead_of(public_url=settings.public_url, docs_url=settings.docs_url, operator_email=settings.operator_email)
    return letterhead, settings.smtp_url is not None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a user of that number
        return "unknown"


def _seller() -> Seller:
    given = os.environ.get(variable("seller_file"))
    return load_seller(Path(given) if given else store_settings(os.environ).seller_file)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and ends the process."""
    try:
        status = app(arguments, prog_name="vlaapi", standalone_mode=False)
    except typer.TyperException as error:
        _refuse(error.format_message(), status=2)
    except typer.Abort:
        _refuse("stopped.", status=130)
    except SettingsError as error:
        _refuse("; ".join(str(error).splitlines()), status=2)
    except ApiError as error:
        _refuse(error.message, status=2 if error.kind.status < 500 else 1)
    except SchemaBusyError as error:
        _refuse(str(error), status=1)
    except DatabaseAwayError as error:
        _refuse(f"the database cannot be reached ({error}); is the service running?", status=1)
    sys.exit(status if isinstance(status, int) else 0)


def _refuse(message: str, *, status: int) -> NoReturn:
    typer.echo(f"vlaapi: {message}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
