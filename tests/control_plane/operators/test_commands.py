"""`vlaapi operators`, `audit`, `signups`, `mails`, `webhooks` as an operator meets them: real stores, refusals in one line."""

import asyncio
import json
from typing import Any

import pytest

from control_plane.db import create_engine
from control_plane.keys.verbs import Stores
from control_plane.mail.letters import letterhead_of
from control_plane.operators.operator_key import is_operator_key
from control_plane.redis import create_redis
from control_plane.signups.verbs import NewSignup, ask
from tests.conftest import outside_loop
from tests.control_plane.test_cli import Environment, an_email, environment, vlaapi

__all__ = ["environment"]


def told(environment: Environment, *words: str) -> Any:
    """What a command says to programs."""
    done = vlaapi(environment, *words, "--json")
    assert done.status == 0, done.err
    return json.loads(done.out)


def test_an_operators_key_is_made_listed_and_revoked_and_all_of_it_is_in_the_log(environment: Environment) -> None:
    made = told(environment, "operators", "create", "--name", "Ada", "--role", "support")
    id_ = made["operator"]["id"]
    assert is_operator_key(made["operator_key"])
    listed = told(environment, "operators", "list")["operators"]
    assert made["operator_key"] not in str(listed)
    assert told(environment, "operators", "revoke", id_)["operator"]["revoked_at"] is not None
    lines = told(environment, "audit", "list", "--target", id_)["lines"]
    assert [line["action"] for line in lines] == ["operator.revoke", "operator.create"]
    assert lines[0]["actor"].startswith("command line ")


def test_a_sign_up_is_approved_and_without_a_mail_server_that_is_said(environment: Environment) -> None:
    email = an_email()
    outside_loop(lambda: _sign_up(environment, email))
    (row,) = [row for row in told(environment, "signups", "list", "--status", "waiting")["signups"] if row["email"] == email]
    done = vlaapi(environment, "signups", "approve", row["id"], "--tier", "pro")
    assert (done.status, "no mail server is set" in done.err) == (0, True)
    assert f"waits in the outbox for {email}" in done.out
    mails = told(environment, "mails", "list", "--status", "waiting")["mails"]
    assert [mail["subject"] for mail in mails if mail["to"] == email] == ["Welcome: your API key"]


async def _sign_up(environment: Environment, email: str) -> None:
    engine = create_engine(environment["VLA_DATABASE_URL"], timeout_s=10)
    redis = create_redis(environment["VLA_REDIS_URL"], timeout_s=10)
    letters = letterhead_of(public_url="https://x.example", docs_url=None, operator_email=None)
    stores = Stores(engine=engine, redis=redis, pepper=environment["VLA_KEY_PEPPER"].encode())
    await ask(stores, letters, NewSignup(company_name="Acme", email=email, use_case="sorting"))
    await asyncio.gather(redis.aclose(), engine.dispose())


@pytest.mark.parametrize(
    "words",
    [
        ("operators", "create", "--name", "Ada", "--role", "god"),
        ("operators", "revoke", "opr_nonsense"),
        ("signups", "approve", "sup_00000000000000000000000000000000"),
        ("signups", "list", "--status", "great"),
        ("mails", "replay", "mail_x"),
        ("webhooks", "replay", "whd_00000000000000000000000000000000"),
    ],
)
def test_what_is_wrong_is_one_line(environment: Environment, words: tuple[str, ...]) -> None:
    done = vlaapi(environment, *words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
