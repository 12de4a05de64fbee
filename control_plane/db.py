"""PostgreSQL: one engine per process, one MetaData for every table, asyncpg underneath.

Tables live with their resource (`customers/tables.py`, …) and join this MetaData. Knows no table and no request.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from asyncpg.exceptions import InterfaceError as AsyncpgInterfaceError
from asyncpg.exceptions import InternalClientError, PostgresError
from sqlalchemy import MetaData
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_OUR_MISTAKES = (IntegrityError, ProgrammingError, DataError, NotSupportedError)


class DatabaseAwayError(Exception):
    """PostgreSQL cannot be reached, is starting or stopping, or did not answer in time. The statement may have been done."""


class SchemaBusyError(Exception):
    """A migration did not get its lock in time and changed nothing; the text says who may be in the way and what to do."""


def create_engine(database_url: str, *, pool_size: int = 5, timeout_s: float = 2.0) -> AsyncEngine:
    """An engine whose every connect, checkout and statement is bounded by `timeout_s`, in UTC. Connects lazily."""
    url = database_url.replace("postgresql://", "postgresql+asyncpg://", 1)
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout_s,
        pool_pre_ping=True,
        connect_args={"timeout": timeout_s, "command_timeout": timeout_s, "server_settings": {"timezone": "UTC"}},
    )


@contextmanager
def database_errors() -> Iterator[None]:
    """Turns every way in which PostgreSQL can be away into DatabaseAwayError; broken SQL and broken constraints pass through."""
    try:
        yield
    except _OUR_MISTAKES:
        raise
    except (DBAPIError, PoolTimeoutError, PostgresError, AsyncpgInterfaceError, InternalClientError, OSError) as error:
        raise DatabaseAwayError(type(error).__name__) from error


async def connect(database_url: str, *, timeout_s: float, name: str) -> "asyncpg.Connection":
    """One bare connection, for what a pool and SQL text cannot say (COPY). `name` is what pg_stat_activity shows."""
    return await asyncpg.connect(
        database_url,
        timeout=timeout_s,
        command_timeout=timeout_s,
        server_settings={"timezone": "UTC", "application_name": name},
    )
