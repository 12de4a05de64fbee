"""Webhooks on their way to a real server: signed, retried, replayed, never led astray, and seen in a list."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from control_plane.audit.reading import Filter, read_lines
from control_plane.customers.verbs import CreatedCustomer
from control_plane.metrics import Metrics
from control_plane.operators.roles import Role
from control_plane.webhooks.delivery import WebhookDelivery, WebhookPace
from control_plane.webhooks.publish import Message, publish
from tests.control_plane.account.conftest import asked, customer_of
from tests.control_plane.eventually import eventually
from tests.control_plane.webhooks.conftest import AT_ONCE, Office
from tests.control_plane.webhooks.receiving import Receiver, receiving, status

Deliver = Callable[..., WebhookDelivery]
FAILS = status("500 Oops")


async def registered(office: Office, customer: CreatedCustomer, url: str, **more: Any) -> dict[str, Any]:
    """A webhook of that customer, with its secret."""
    response = await asked(office, customer.key.text, "POST", "/webhooks", json={"url": url, **more})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


async def published(office: Office, customer: CreatedCustomer, *, key: str = "one") -> None:
    """A message for that customer."""
    message = Message(type="usage.threshold_reached", data={"used": 80}, dedupe_key=key)
    async with office.stores.engine.begin() as connection:
        await publish(connection, customer.customer.id, message)


async def deliveries(office: Office, customer: CreatedCustomer) -> list[dict[str, Any]]:
    """As the customer sees them."""
    listed: list[dict[str, Any]] = (await asked(office, customer.key.text, "GET", "/webhook-deliveries")).json()["data"]
    return listed


async def test_a_step_with_nothing_due_makes_no_client(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker does one every second, and a client costs more than all its other duties together."""
    monkeypatch.setattr(httpx, "AsyncClient", pytest.fail)
    await deliver().step()


async def test_a_message_arrives_signed_so_that_the_librarys_own_check_passes(office: Office, deliver: Deliver) -> None:
    mine = await customer_of(office)
    async with receiving(Receiver()) as receiver:
        made = await registered(office, mine, receiver.url)
        await published(office, mine)
        await published(office, mine)  # the same dedupe key: the same message
        await deliver().step()
    ((headers, body),) = receiver.got
    told = Webhook(made["secret"]).verify(body, headers)
    assert (told["type"], told["data"]) == ("usage.threshold_reached", {"used": 80})
    assert (receiver.paths, headers["content-type"]) == (["/hooks?a=1"], "application/json")
    with pytest.raises(WebhookVerificationError):
        Webhook(made["secret"]).verify(body + b" ", headers)
    (delivery,) = await deliveries(office, mine)
    assert (delivery["status"], delivery["message"]) == ("delivered", headers["webhook-id"])


async def test_what_fails_is_tried_again_with_the_same_id_and_then_dead_and_replayable(
    office: Office, deliver: Deliver, metrics: Metrics
) -> None:
    mine = await customer_of(office)
    async with receiving(Receiver(answer=lambda n: FAILS if n <= 3 else status("200 OK"))) as receiver:
        await registered(office, mine, receiver.url)
        await published(office, mine)
        await deliver().step()
        (dead,) = await deliveries(office, mine)
        assert (dead["status"], dead["attempts"], dead["last_status_code"], len(receiver.got)) == ("dead", 3, 500, 3)
        again = await asked(office, mine.key.text, "POST", f"/webhook-deliveries/{dead['id']}/replay")
        assert (again.status_code, again.json()["status"]) == (200, "waiting")
        await deliver().step()
    assert len(set(receiver.ids)) == 1
    assert (await deliveries(office, mine))[0]["status"] == "delivered"
    path = f"/webhook-deliveries/{dead['id']}/attempts"
    told = (await asked(office, mine.key.text, "GET", path)).json()["attempts"]
    assert [(one["status_code"], one["error"]) for one in told] == [(500, None)] * 3 + [(200, None)]
    assert [one["at"] for one in told] == sorted(one["at"] for one in told)
    stranger = await customer_of(office)
    unseen = await asked(office, stranger.key.text, "GET", path)
    assert (unseen.status_code, unseen.json()["error"]["code"]) == (404, "not_found")
    assert metrics.registry.get_sample_value("vla_webhooks_total", {"outcome": "dead"}) == 1
    (line,) = await read_lines(office.stores.engine, Filter(target=dead["id"]), limit=5)
    assert line.action == "webhook.replay"


async def test_redirects_are_not_followed_and_answers_not_read_to_the_end(office: Office, deliver: Deliver) -> None:
    mine = await customer_of(office)
    other = Receiver()
    async with receiving(other), receiving(Receiver()) as receiver:
        receiver.answer = lambda n: (
            status("302 Found", f"Location: {other.url}") if n == 1 else status("200 OK", body=b"x" * 5_000_000)
        )
        await registered(office, mine, receiver.url)
        await published(office, mine)
        await deliver().step()
    assert (other.got, len(receiver.got)) == ([], 2)
    assert (await deliveries(office, mine))[0]["status"] == "delivered"


async def test_who_is_slow_gone_or_talks_nonsense_costs_one_attempt_each(office: Office, deliver: Deliver) -> None:
    mine = await customer_of(office)
    hanging, nonsense = Receiver(hold=asyncio.Event()), Receiver(answer=lambda _: b"nonsense\r\n\r\n")
    async with receiving(hanging), receiving(nonsense):
        for url in (hanging.url, nonsense.url, "http://127.0.0.1:1/"):
            await registered(office, mine, url)
        await published(office, mine)
        await deliver(replace(AT_ONCE, timeout_s=0.3, pauses_s=())).step()
    listed = await deliveries(office, mine)
    assert [delivery["status"] for delivery in listed] == ["dead"] * 3
    assert {delivery["last_error"] for delivery in listed} <= {
        "no answer within 0.3 s",
        "RemoteProtocolError",
        "ConnectError",
        "ReadTimeout",
    }


async def test_an_address_is_checked_again_at_delivery(office: Office, deliver: Deliver) -> None:
    mine = await customer_of(office)
    async with receiving(Receiver()) as receiver:
        await registered(office, mine, receiver.url)
        await published(office, mine)
        await deliver(is_loopback_allowed=False).step()
    assert receiver.got == []
    assert (await deliveries(office, mine))[0]["last_error"] == "url must lead to a public address."


async def test_during_a_rotation_both_secrets_verify(office: Office, deliver: Deliver) -> None:
    mine = await customer_of(office)
    async with receiving(Receiver()) as receiver:
        old = await registered(office, mine, receiver.url)
        new = (await asked(office, mine.key.text, "POST", f"/webhooks/{old['webhook']['id']}/rotate")).json()
        await published(office, mine)
        await deliver().step()
    ((headers, body),) = receiver.got
    assert new["secret"] != old["secret"]
    for made in (old, new):
        Webhook(made["secret"]).verify(body, headers)


async def test_410_switches_the_webhook_off(office: Office, deliver: Deliver) -> None:
    mine = await customer_of(office)
    async with receiving(Receiver(answer=lambda _: status("410 Gone"))) as receiver:
        await registered(office, mine, receiver.url)
        await published(office, mine)
        await deliver().step()
        await published(office, mine, key="two")
        await deliver().step()
    (webhook,) = (await asked(office, mine.key.text, "GET", "/webhooks")).json()["webhooks"]
    assert (webhook["is_enabled"], len(receiver.got)) == (False, 1)


async def test_several_workers_deliver_each_message_once(office: Office, deliver: Deliver) -> None:
    mine = await customer_of(office)
    async with receiving(Receiver()) as receiver:
        await registered(office, mine, receiver.url)
        for number in range(20):
            await published(office, mine, key=str(number))
        pace = WebhookPace(lease_s=60, at_once=3)
        await asyncio.gather(*(deliver(pace).step() for _ in range(3)))
    assert (len(receiver.got), len(set(receiver.ids))) == (20, 20)


WORKER = """
import asyncio, sys
from control_plane.db import create_engine
from control_plane.logs import create_log
from control_plane.metrics import create_metrics
from control_plane.webhooks.delivery import WebhookDelivery, WebhookPace
asyncio.run(WebhookDelivery(engine=create_engine(sys.argv[1]), pepper=sys.argv[2].encode(), is_loopback_allowed=True,
    metrics=create_metrics(), log=create_log("info"), pace=WebhookPace(lease_s=1.0)).step())
"""


async def test_a_worker_killed_in_the_middle_loses_nothing(office: Office, deliver: Deliver) -> None:
    mine = await customer_of(office)
    async with receiving(Receiver(hold=asyncio.Event())) as receiver:
        await registered(office, mine, receiver.url)
        await published(office, mine)
        argv = (sys.executable, "-c", WORKER, str(office.settings.database_url), office.stores.pepper.decode())
        process = await asyncio.create_subprocess_exec(*argv)

        async def has_arrived() -> bool:
            return bool(receiver.got)

        await eventually(has_arrived, within_s=60)
        process.kill()
        await process.wait()
        assert receiver.hold is not None
        receiver.hold.set()
        heir = deliver(WebhookPace())

        async def is_delivered() -> bool:
            await heir.step()
            return bool((await deliveries(office, mine))[0]["status"] == "delivered")

        await eventually(is_delivered)
    assert (len(receiver.ids), len(set(receiver.ids))) == (2, 1)


async def test_only_those_who_asked_for_a_type_get_it(office: Office, deliver: Deliver) -> None:
    mine, other = await customer_of(office), await customer_of(office)
    async with receiving(Receiver()) as wanting, receiving(Receiver()) as not_wanting, receiving(Receiver()) as foreign:
        await registered(office, mine, wanting.url, events=["usage.threshold_reached"])
        made = await registered(office, mine, not_wanting.url, events=["webhook.test"])
        await registered(office, other, foreign.url)
        await published(office, mine)
        test = await asked(office, mine.key.text, "POST", f"/webhooks/{made['webhook']['id']}/test")
        await deliver().step()
    assert (len(wanting.got), not_wanting.ids, foreign.got) == (1, [test.json()["message"]], [])
    assert not_wanting.body()["type"] == "webhook.test"


async def test_webhooks_are_changed_and_deleted_with_what_waits(office: Office, deliver: Deliver) -> None:
    mine, other = await customer_of(office), await customer_of(office)
    async with receiving(Receiver()) as receiver:
        made = await registered(office, mine, receiver.url)
        path = f"/webhooks/{made['webhook']['id']}"
        for method, where in (("PATCH", path), ("DELETE", path), ("POST", f"{path}/rotate"), ("POST", f"{path}/test")):
            response = await asked(office, other.key.text, method, where, json={"is_enabled": False})
            assert response.status_code == 404, where
        off = await asked(office, mine.key.text, "PATCH", path, json={"is_enabled": False, "events": ["webhook.test"]})
        assert (off.json()["is_enabled"], off.json()["events"]) == (False, ["webhook.test"])
        await asked(office, mine.key.text, "PATCH", path, json={"is_enabled": True, "events": None})
        await published(office, mine)
        assert (await asked(office, mine.key.text, "DELETE", path)).status_code == 204
        await deliver().step()
    assert receiver.got == []
    assert (await asked(office, mine.key.text, "GET", "/webhooks")).json() == {"webhooks": []}
    target = made["webhook"]["id"]
    lines = await read_lines(office.stores.engine, Filter(target=target), limit=9)
    assert [line.action for line in lines] == ["webhook.delete", "webhook.change", "webhook.change", "webhook.create"]
    assert made["secret"][6:] not in str(lines)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"url": "http://8.8.8.8/"}, "url"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "url"),
        ({"url": "https://10.1.2.3/"}, "url"),
        ({"url": "http://127.0.0.1/", "events": ["nothing.known"]}, "events"),
        ({"url": "http://127.0.0.1/", "events": []}, "events"),
        ({"url": "http://127.0.0.1/", "colour": 1}, "colour"),
        ({}, "url"),
    ],
)
async def test_a_wrong_webhook_is_refused_by_name(office: Office, body: dict[str, Any], param: str) -> None:
    mine = await customer_of(office)
    response = await asked(office, mine.key.text, "POST", "/webhooks", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (422, param)
    assert (await asked(office, mine.key.text, "GET", "/webhooks")).json() == {"webhooks": []}


async def test_there_are_at_most_ten_also_when_made_at_once(office: Office) -> None:
    mine = await customer_of(office)
    wish = {"url": "http://127.0.0.1:1/"}
    made = await asyncio.gather(*(asked(office, mine.key.text, "POST", "/webhooks", json=wish) for _ in range(13)))
    assert sorted(response.status_code for response in made) == [201] * 10 + [422] * 3


async def test_operators_see_and_replay_every_delivery(office: Office, deliver: Deliver) -> None:
    mine = await customer_of(office)
    async with receiving(Receiver(answer=lambda _: FAILS)) as receiver:
        await registered(office, mine, receiver.url)
        await published(office, mine)
        await deliver().step()
    page = (await office.ask("GET", "/webhook-deliveries?status=dead", role=Role.VIEWER)).json()
    (dead,) = page["data"]
    again = await office.ask("POST", f"/webhook-deliveries/{dead['id']}/replay", role=Role.SUPPORT)
    assert (again.status_code, again.json()["attempts"]) == (200, 0)
    assert (await office.ask("POST", "/webhook-deliveries/whd_x/replay")).status_code == 404


async def test_secrets_lie_sealed(office: Office) -> None:
    mine = await customer_of(office)
    made = await registered(office, mine, "http://127.0.0.1:1/")
    async with office.stores.engine.connect() as connection:
        (row,) = (await connection.exec_driver_sql("SELECT * FROM webhook_endpoints")).all()
    assert made["secret"].removeprefix("whsec_").encode() not in bytes(row.sealed_secret)
    assert made["secret"] not in str((await asked(office, mine.key.text, "GET", "/webhooks")).json())
