"""`vlaapi policies …` and `vlaapi replicas …` as an operator meets them, over real stores."""

import json
import time

import msgspec
import pytest
from redis import Redis

from control_plane.policies.roll_call import PolicyReport, ReplicaReport, Report
from tests.control_plane.identity.conftest import PEPPER
from tests.control_plane.test_cli import Environment, inherited, vlaapi

REPORT = Report(
    process="api-1",
    revision=10**6,
    bundles=0,
    refusal=None,
    policies=[PolicyReport(policy="tabletop", version=number, model=f"tabletop{end}") for number, end in ((1, ""), (2, ".2"))],
    replicas=[ReplicaReport(address="127.0.0.1:8001", state="serving", in_flight=0)],
)


@pytest.fixture
def environment(database_url: str, clean_redis_url: str) -> Environment:
    stores = {"VLA_DATABASE_URL": database_url, "VLA_REDIS_URL": clean_redis_url, "VLA_KEY_PEPPER": PEPPER.decode()}
    return inherited() | stores


@pytest.fixture
def process(clean_redis_url: str) -> None:
    """One API process, as far as its report goes; it stays fresh for as long as a slow test takes."""
    with Redis.from_url(clean_redis_url) as redis:
        redis.hset("vla:fleet:processes", REPORT.process, msgspec.json.encode((time.time() + 3600, REPORT)))


def states(environment: Environment) -> dict[int, tuple[bool, str | None]]:
    rows = json.loads(vlaapi(environment, "policies", "list", "--json").out)["policies"]
    return {row["version"]: (row["enabled"], row["default"]) for row in rows}


@pytest.mark.usefixtures("process")
def test_what_an_operator_decides_is_listed(environment: Environment) -> None:
    assert states(environment) == {1: (True, "policy"), 2: (True, None)}
    for words in (("default", "tabletop@2"), ("default", "tabletop"), ("disable", "tabletop@1"), ("restrict", "tabletop")):
        done = vlaapi(environment, "policies", *words)
        assert (done.status, done.out) == (0, "done; every process follows within a second.\n"), done.err
    assert states(environment) == {1: (False, None), 2: (True, "service")}
    assert "tabletop" in vlaapi(environment, "policies", "list").out


@pytest.mark.usefixtures("process")
def test_what_nobody_serves_is_refused_in_one_line_and_taking_away_is_not(environment: Environment) -> None:
    refused = vlaapi(environment, "policies", "default", "tabeltop")
    assert (refused.status, refused.err) == (
        2,
        "vlaapi: no running process serves tabeltop; they serve tabletop@1, tabletop@2.\n",
    )
    assert vlaapi(environment, "policies", "disable", "tabeltop").status == 0


@pytest.mark.parametrize("words", [("pin", "tabletop"), ("pin", "tabletop@1"), ("disable", "tabletop@one"), ("disable", "")])
def test_half_a_wish_is_refused(environment: Environment, words: tuple[str, ...]) -> None:
    stranger = ("--customer", "cus_0000000000000000000000") if words[0] == "pin" else ()
    done = vlaapi(environment, "policies", *words, *stranger)
    assert done.status == 2
    assert len(done.err.splitlines()) == 1


@pytest.mark.usefixtures("process")
def test_a_replica_is_drained_seen_and_resumed(environment: Environment) -> None:
    assert vlaapi(environment, "replicas", "drain", "127.0.0.1:8001").out == "127.0.0.1:8001 is drained.\n"
    (row,) = json.loads(vlaapi(environment, "replicas", "list", "--json").out)["replicas"]
    assert (row["replica"], row["draining"], row["processes"]) == ("127.0.0.1:8001", True, 1)
    assert vlaapi(environment, "replicas", "resume", "127.0.0.1:8001").status == 0
    refused = vlaapi(environment, "replicas", "drain", "127.0.0.1:9")
    assert refused.err == "vlaapi: there is no replica '127.0.0.1:9'; there is 127.0.0.1:8001.\n"
