"""PgBouncer with the container's own script and settings, under the engine that the API processes really use.

Only where VLA_PGBOUNCER_BIN or PATH has one: Debian 12's is too old to follow prepared statements, and no wheel carries another.
"""

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import create_engine
from deploy.embedded.postgres import Cluster
from deploy.embedded.settings import ROOT
from tests.conftest import ENVIRONMENT, free_port, running
from tests.deploy.production_door import server_on

_DOCKER = ROOT / "deploy/docker"
_BOUNCER = shutil.which(os.environ.get("VLA_PGBOUNCER_BIN", "pgbouncer"))
_ANYWHERE = ".".join("0000")
_UNPRIVILEGED = ("unshare", "--user", "--map-user=65534", "--map-group=65534")  # it refuses to be root, as PostgreSQL does


@pytest.mark.skipif(_BOUNCER is None, reason="needs a PgBouncer of 1.21 or newer: VLA_PGBOUNCER_BIN names one")
async def test_the_api_s_engine_works_through_a_pool_of_transactions(tmp_path: Path, cluster: Cluster, postgres_url: str) -> None:
    """Two server connections under eight of ours: prepared statements and the time zone have to survive every change."""
    port = free_port().number
    conf = tmp_path / "pgbouncer.ini"
    conf.write_text(
        _settings(port, tmp_path, f"host=127.0.0.1 port={cluster.port.number} dbname={postgres_url.rpartition('/')[2]}")
    )
    argv = (*(_UNPRIVILEGED if os.geteuid() == 0 else ()), str(_DOCKER / "pgbouncer.sh"), str(conf))
    where = f"{Path(str(_BOUNCER)).parent}:{ENVIRONMENT['PATH']}"
    environment = {**ENVIRONMENT, "PATH": where, "POSTGRES_PASSWORD": cluster.password, "RUN_DIR": str(tmp_path)}
    server = replace(server_on("pgbouncer", argv, port, tmp_path), environment=environment)
    with running(server, log=tmp_path / "pgbouncer.log"):
        engine = create_engine(f"postgresql://vlaapi:{cluster.password}@127.0.0.1:{port}/vlaapi", pool_size=8, timeout_s=30)
        try:
            found = await asyncio.gather(*(_ask(engine, number) for number in range(200)))
        finally:
            await engine.dispose()
    assert [(number, zone) for number, zone, _ in found] == [(number, "UTC") for number in range(200)]
    assert len({backend for _, _, backend in found}) <= 2
    assert (tmp_path / "userlist.txt").stat().st_mode & 0o077 == 0


async def _ask(engine: AsyncEngine, number: int) -> tuple[int, str, int]:
    async with engine.connect() as connection:
        value = (await connection.execute(text("SELECT CAST(:n AS integer)"), {"n": number})).scalar_one()
        await connection.commit()  # the next statement may meet another server connection
        zone = (await connection.execute(text("SHOW TimeZone"))).scalar_one()
        await connection.commit()
        return value, zone, (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()


def _settings(port: int, folder: Path, database: str) -> str:
    """The container's, with other places and so few server connections that they are shared."""
    settings = (_DOCKER / "pgbouncer.ini").read_text()
    changes = {
        "host=postgres port=5432 dbname=vlaapi": database,
        _ANYWHERE: "127.0.0.1",
        "6432": str(port),
        "/run/pgbouncer": str(folder),
        "default_pool_size = 20": "default_pool_size = 2",
        "reserve_pool_size = 5": "reserve_pool_size = 0",
        "query_wait_timeout = 5": "query_wait_timeout = 60",
    }
    for before, after in changes.items():
        assert before in settings
        settings = settings.replace(before, after)
    return settings
