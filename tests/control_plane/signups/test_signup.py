"""From "we would like to try it" to the first call: sign-up, notice, approval, welcome e-mail, and a key that lies nowhere."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from billing.tiers import Tier
from control_plane.audit.reading import Filter, read_lines
from control_plane.identity.api_key import is_well_formed
from control_plane.logs import create_log
from control_plane.mail.delivery import Delivery
from control_plane.mail.letters import letterhead_of
from control_plane.mail.transport import smtp_transport
from control_plane.metrics import create_metrics
from control_plane.operators.roles import Role
from control_plane.protocols.desk import OPEN_CALLS_PER_HOUR
from control_plane.signups.verbs import approve
from tests.control_plane.account.conftest import asked, customer_of
from tests.control_plane.mail.conftest import Postman, post_office
from tests.control_plane.signups.conftest import Office

WISH = {"company_name": "Acme Robotics", "email": "ops@acme.example", "use_case": "Two Frankas\nthat sort <parts>."}
SENDER = "vlaapi <robots@api.vla.example>"


async def sign_up(office: Office, **changes: Any) -> Any:
    """Somebody asks."""
    return await office.client.post("/v1/signup", json={**WISH, **changes})


async def sent(office: Office, log: Path) -> Postman:
    """Everything in the outbox, delivered to a real server."""
    postman = Postman()
    with log.open("ab", buffering=0) as file:
        async with post_office(postman) as address:
            await Delivery(
                engine=office.stores.engine,
                transport=smtp_transport(f"smtp+plain://{address}", sender=SENDER),
                sender=SENDER,
                pepper=office.stores.pepper,
                metrics=create_metrics(),
                log=create_log("debug", file),
            ).step()
    return postman


def words(letter: Any) -> str:
    """The text of a letter."""
    body = letter.get_body(("plain",))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


async def everything_stored(office: Office) -> str:
    """All rows of all tables, and all of Redis, as text."""
    async with office.stores.engine.connect() as connection:
        names = (await connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))).scalars().all()
        queries = [text(f'SELECT t::text FROM "{name}" t') for name in names]  # noqa: S608 -- the catalogue's names
        rows = [row for query in queries for row in (await connection.execute(query)).scalars()]
    redis: Redis = office.stores.redis
    kept = [str(await redis.dump(name)) async for name in redis.scan_iter("*")]
    return "\n".join([*rows, *kept])


async def test_the_whole_onboarding(office: Office, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert (await sign_up(office)).json() == {"status": "received"}
    (notice,) = (await sent(office, tmp_path / "log")).letters
    assert (notice["to"], notice["subject"]) == ("ops@vla.example", "Sign-up: Acme Robotics")
    assert "Two Frankas\nthat sort <parts>." in words(notice)
    (waiting,) = (await office.ask("GET", "/signups?status=waiting", role=Role.VIEWER)).json()["data"]
    assert waiting["id"] in words(notice)

    approved = await office.ask("POST", f"/signups/{waiting['id']}/approve", json={"tier": "pro"})
    assert approved.status_code == 200, approved.text
    before = await everything_stored(office)
    (welcome,) = (await sent(office, tmp_path / "log")).letters
    key = next(word for word in words(welcome).split() if is_well_formed(word))

    assert (welcome["to"], welcome["subject"]) == ("ops@acme.example", "Welcome: your API key")
    for told in ("https://api.vla.example/v1/inference", "openapi.json", "100 requests a minute", "100,000 requests a month"):
        assert told in words(welcome)
    html = welcome.get_body(("html",))
    assert html is not None
    assert key in html.get_content()
    assert (await asked(office, key, "GET", "/models")).status_code == 200
    logs = (tmp_path / "log").read_text() + "".join(capfd.readouterr())
    for place in (before, await everything_stored(office), approved.text, logs):
        assert key[14:] not in place
    lines = await read_lines(office.stores.engine, Filter(target=waiting["id"]), limit=5)
    assert [(line.action, line.actor.split()[-1]) for line in lines] == [("signup.approved", "admin")]


async def test_the_answer_is_the_same_whoever_asks_and_asking_again_is_one_request(office: Office) -> None:
    known = await customer_of(office)
    answers = [
        await sign_up(office),
        await sign_up(office, email="OPS@acme.example"),
        await sign_up(office, email=known.customer.email),
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(202, '{"status":"received"}')}
    listed = (await office.ask("GET", "/signups")).json()["data"]
    assert len(listed) == 2
    taken = next(row for row in listed if row["email"] == known.customer.email)
    refused = await office.ask("POST", f"/signups/{taken['id']}/approve", json={})
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "email")
    assert (await office.ask("GET", "/signups?status=waiting")).json()["data"] == listed


async def test_who_fills_in_the_trap_gets_the_same_answer_and_nothing_happens(office: Office) -> None:
    answer = await sign_up(office, website="https://spam.example")
    assert (answer.status_code, answer.json()) == (202, {"status": "received"})
    assert (await office.ask("GET", "/signups")).json()["data"] == []


async def test_a_decision_is_made_once(office: Office) -> None:
    await sign_up(office)
    (row,) = (await office.ask("GET", "/signups")).json()["data"]
    path = f"/signups/{row['id']}"
    decisions = [office.ask("POST", f"{path}/approve", json={}) for _ in range(4)]
    assert sorted(answer.status_code for answer in await asyncio.gather(*decisions)) == [200, 422, 422, 422]
    assert (await office.ask("POST", f"{path}/reject")).status_code == 422
    assert len((await office.ask("GET", "/customers")).json()["data"]) == 1
    assert (await office.ask("POST", "/signups/sup_00000000000000000000000000000000/reject")).status_code == 404


async def test_who_was_turned_down_may_ask_again_and_is_told_nothing(office: Office) -> None:
    await sign_up(office)
    (row,) = (await office.ask("GET", "/signups")).json()["data"]
    assert (await office.ask("POST", f"/signups/{row['id']}/reject", role=Role.SUPPORT)).json()["status"] == "rejected"
    assert (await sign_up(office)).status_code == 202
    assert [r["status"] for r in (await office.ask("GET", "/signups")).json()["data"]] == ["waiting", "rejected"]
    recipients = {mail["to"] for mail in (await office.ask("GET", "/mails")).json()["data"]}
    assert recipients == {"ops@vla.example"}


async def test_support_gives_the_free_tier_only(office: Office) -> None:
    await sign_up(office)
    (row,) = (await office.ask("GET", "/signups")).json()["data"]
    path = f"/signups/{row['id']}/approve"
    paid = await office.ask("POST", path, role=Role.SUPPORT, json={"tier": "enterprise"})
    assert (paid.status_code, paid.json()["error"]["code"]) == (403, "operator_role")
    free = await office.ask("POST", path, role=Role.SUPPORT, json={})
    assert free.json()["customer"]["tier"] == "free"


async def test_an_approval_that_fails_leaves_no_customer_and_no_key(office: Office) -> None:
    await sign_up(office)
    async with office.stores.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE mails RENAME TO mails_away"))
        (id_,) = (await connection.execute(text("SELECT id FROM signups"))).scalars()
    letters = letterhead_of(public_url="https://x.example", docs_url=None, operator_email=None)
    with pytest.raises(Exception, match="mails"):
        await approve(office.stores, letters, id_, tier=Tier.FREE)
    async with office.stores.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE mails_away RENAME TO mails"))
        assert (await connection.execute(text("SELECT count(*) FROM api_keys"))).scalar_one() == 0
    assert (await office.ask("GET", "/customers")).json()["data"] == []


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": "a@b.example,c@d.example"}, "email"),
        ({"email": "a@b.example\r\nBcc: c@d.example"}, "email"),
        ({"company_name": "Acme\r\nBcc: c@d.example"}, "company_name"),
        ({"company_name": " "}, "company_name"),
        ({"use_case": "\u200b"}, "use_case"),
        ({"use_case": "x" * 2001}, "use_case"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_sign_up_is_refused_by_name(office: Office, changes: dict[str, Any], param: str) -> None:
    answer = await sign_up(office, **changes)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
    assert (await office.ask("GET", "/signups")).json()["data"] == []


async def test_one_address_asks_only_so_often(office: Office) -> None:
    answers = [await sign_up(office, email=f"ops{n}@acme.example") for n in range(OPEN_CALLS_PER_HOUR + 1)]
    assert [answer.status_code for answer in answers] == [202] * OPEN_CALLS_PER_HOUR + [429]
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_the_letters_hold_no_place_that_was_not_filled_in(office: Office, tmp_path: Path) -> None:
    await sign_up(office)
    (row,) = (await office.ask("GET", "/signups")).json()["data"]
    await office.ask("POST", f"/signups/{row['id']}/approve", json={"tier": "enterprise"})
    letters = (await sent(office, tmp_path / "log")).letters
    for letter in letters:
        for kind in ("plain", "html"):
            body = letter.get_body((kind,))
            assert body is not None
            assert not re.search(r"\{\{|\}\}|\[\[|None|undefined", body.get_content())
    assert "unlimited requests a month" in words(letters[1])
