"""The embedded PostgreSQL and Valkey: they are what the rest of the product was told they are."""

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from control_plane.migrations import upgrade
from deploy.embedded.postgres import Cluster, create_cluster, postgres
from deploy.embedded.server import StartError
from tests.conftest import ENVIRONMENT, free_port, running


async def test_each_database_is_migrated_and_runs_in_utc(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM customer_accounts") == 0
        assert await connection.fetchval("SHOW timezone") == "UTC"
        assert (await connection.fetchval("SHOW server_version")).startswith("18.")
    finally:
        await connection.close()


def test_a_sync_test_may_migrate_again_without_change(database_url: str) -> None:
    upgrade(database_url)


async def test_a_test_database_does_not_see_another_tests_rows(database_url: str, postgres_url: str) -> None:
    mine, shared = await asyncpg.connect(database_url), await asyncpg.connect(postgres_url)
    try:
        await mine.execute(
            "INSERT INTO customer_accounts (id, company_name, email, tier) VALUES (uuidv7(), 'A', 'here@example.com', 'free')"
        )
        assert await shared.fetchval("SELECT count(*) FROM customer_accounts WHERE email = 'here@example.com'") == 0
    finally:
        await asyncio.gather(mine.close(), shared.close())


async def test_a_commit_waits_for_the_log_even_in_tests(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    try:
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
    finally:
        await connection.close()


async def test_valkey_keeps_everything_and_evicts_nothing(clean_redis_url: str) -> None:
    client = Redis.from_url(clean_redis_url, decode_responses=True)
    try:
        settings = await client.config_get("append*", "maxmemory-policy")
        assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "everysec")
        assert settings["maxmemory-policy"] == "noeviction"
        assert await client.dbsize() == 0
    finally:
        await client.aclose()


async def test_valkey_refuses_a_client_without_the_password(redis_url: str) -> None:
    client = Redis.from_url("redis://" + redis_url.split("@")[1])
    try:
        with pytest.raises(RedisError, match="authenticat"):
            await client.ping()
    finally:
        await client.aclose()


def test_a_cluster_of_another_major_is_refused_and_named(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "pg").mkdir()
    (tmp_path / "pg" / "PG_VERSION").write_text("17\n")
    other = Cluster(
        programs=cluster.programs, data=tmp_path / "pg", sockets=tmp_path, port=cluster.port, password=cluster.password
    )
    with pytest.raises(StartError, match="made by PostgreSQL 17, this is 18; set VLA_POSTGRES_BIN"):
        create_cluster(other, environment={"PATH": "/usr/bin:/bin"})


def test_a_lock_whose_pid_is_now_another_programs_does_not_stop_the_start(
    cluster: Cluster, server_folder: Path, tmp_path: Path
) -> None:
    own = replace(cluster, data=server_folder / "postgres-after-reboot", port=free_port())
    server = postgres(own, environment=ENVIRONMENT)
    create_cluster(own, environment=ENVIRONMENT)
    with subprocess.Popen(["sleep", "600"]) as anybody:
        (own.data / "postmaster.pid").write_text(f"{anybody.pid}\n{own.data}\n")
        try:
            with running(server, log=tmp_path / "log"):
                assert anybody.poll() is None
        finally:
            anybody.kill()


def test_a_socket_path_too_long_for_the_kernel_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    long = Cluster(
        programs=cluster.programs, data=tmp_path / "pg", sockets=tmp_path / ("x" * 100), port=cluster.port, password="p"
    )
    with pytest.raises(StartError, match="longer than 107 bytes"):
        create_cluster(long, environment={"PATH": "/usr/bin:/bin"})
