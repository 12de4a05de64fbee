"""`vlaapi backup …` as an operator meets it, over a real database, a real store and a scratch server that is really started."""

import re
import secrets

import asyncpg
import psutil
import pytest

from deploy.embedded.binaries import program
from tests.conftest import outside_loop
from tests.control_plane.backups.conftest import KEY, business
from tests.control_plane.test_cli import Environment, inherited, vlaapi

__all__ = ["business"]


@pytest.fixture
def environment(business: str, clean_redis_url: str, objects_url: str) -> Environment:
    """A shell in which everything is named."""
    return inherited() | {
        "VLA_DATABASE_URL": business,
        "VLA_REDIS_URL": clean_redis_url,
        "VLA_KEY_PEPPER": "a pepper that only these tests know, of some length",
        "VLA_OBJECT_STORE_URL": objects_url,
        "VLA_BACKUP_KEY": KEY.decode(),
        "VLA_POSTGRES_PROGRAMS": str(program("postgres", override=None, setting="VLA_POSTGRES_BIN")),
    }


def query(url: str, statement: str) -> object:
    """The one value it answers."""

    async def ask() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return outside_loop(ask)


def test_from_a_backup_to_its_proof_and_back(environment: Environment, business: str) -> None:
    assert "no backup yet" in vlaapi(environment, "backup", "verify").err
    created = vlaapi(environment, "backup", "create")
    assert created.status == 0, created.err
    backup_id = created.out.split(":")[0]

    listed = vlaapi(environment, "backup", "list")
    assert re.search(rf"{backup_id} +0 d 00 h 00 m +\d+\.\d MB +\d+ ", listed.out)

    before = {process.pid for process in psutil.Process().children(recursive=True)}
    verified = vlaapi(environment, "backup", "verify")
    assert (verified.status, " 0 wrong" in verified.out) == (0, True), verified.out + verified.err
    assert re.search(r"ok +rows of inference_logs +60 +60", verified.out)
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before

    refused = vlaapi(environment, "backup", "restore", backup_id)
    assert refused.status == 1
    assert "is not empty" in refused.err

    again = vlaapi(environment, "backup", "create").out.split(":")[0]
    assert vlaapi(environment, "backup", "remove", again).out == f"{again} is removed\n"
    assert again not in vlaapi(environment, "backup", "list").out
    assert "there is no backup 'newest'" in vlaapi(environment, "backup", "remove", "newest").err  # never by guess

    name = f"restored_{secrets.token_hex(4)}"
    restored = vlaapi(environment, "backup", "restore", "newest", "--database", name)
    try:
        assert restored.status == 0, restored.err
        beside = business.rpartition("/")[0] + f"/{name}"
        assert query(beside, "SELECT count(*) FROM inference_logs") == 60
    finally:
        query(business, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_a_difference_is_shown_and_ends_with_one(environment: Environment, business: str) -> None:
    """Broken before it was backed up: the copy is faithful, and the books are not true in it."""
    query(business, "UPDATE usage_months SET billable_requests = billable_requests + 1")
    assert vlaapi(environment, "backup", "create").status == 0
    verified = vlaapi(environment, "backup", "verify")
    assert verified.status == 1
    assert re.search(r"BAD +truth: roll_ups_equal_rows", verified.out)


def test_what_is_missing_or_wrong_is_one_line_without_a_secret(environment: Environment) -> None:
    without = {name: value for name, value in environment.items() if name != "VLA_BACKUP_KEY"}
    assert vlaapi(without, "backup", "list").err == "vlaapi: VLA_BACKUP_KEY: is not set, and backups need it\n"
    assert vlaapi(environment, "backup", "create").status == 0
    other = environment | {"VLA_BACKUP_KEY": "another key of the right length, at least"}
    for words in (("verify",), ("restore", "newest", "--database", "never_made")):
        refused = vlaapi(other, "backup", *words)
        assert refused.status == 1
        assert "there is no backup yet made with the key" in refused.err
        assert other["VLA_BACKUP_KEY"] not in refused.err + refused.out
    assert "was made with the key" in vlaapi(other, "backup", "list").out
    away = environment | {"VLA_OBJECT_STORE_URL": "http://ACCESS:very-secret@127.0.0.1:1/bucket"}
    refused = vlaapi(away, "backup", "create")
    assert refused.status == 1
    assert "the object store cannot be reached" in refused.err
    assert "very-secret" not in refused.err
    assert vlaapi(environment, "backup", "restore", "database-20990101T000000Z-00").status == 1
    assert vlaapi(environment, "backup", "restore", "newest", "--database", 'x"; DROP').status == 2
