"""What is made under an Idempotency-Key is made once, also where the answer holds a secret that is told only once."""

import asyncio
import json

import pytest
from redis.asyncio import Redis

from control_plane.operators.roles import Role
from tests.control_plane.account.conftest import Office, asked, customer_of

AGAIN = {"Idempotency-Key": "0193a6b2-c4d8-7e1f-a2b3-c4d5e6f70819"}
NEW = {"company_name": "Acme Robotics", "email": "ops@acme.example"}


@pytest.fixture
async def redis(office: Office) -> Redis:
    """The store where answers are kept."""
    return office.stores.redis


async def kept_anywhere(redis: Redis, secret: str) -> bool:
    """Whether the secret can be read in any value of the store."""
    for name in [name async for name in redis.scan_iter()]:
        dumped = await redis.dump(name)
        if secret.encode() in name + (dumped or b""):
            return True
    return False


async def test_an_operator_who_asks_again_is_told_the_same_first_key_and_no_second_customer_is_made(office: Office) -> None:
    headers = {**AGAIN, "Authorization": f"Bearer {office.keys[Role.ADMIN]}"}
    first = await office.client.post("/admin/v1/customers", headers=headers, json=NEW)
    again = await office.client.post("/admin/v1/customers", headers=headers, json=NEW)
    assert first.status_code == again.status_code == 201, first.text
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert len((await office.ask("GET", "/customers")).json()["data"]) == 1
    key = first.json()["key"]["api_key"]
    assert (await asked(office, key, "GET", "/models")).status_code == 200


async def test_a_customer_who_asks_many_times_at_once_gets_one_key(office: Office, redis: Redis) -> None:
    key = (await customer_of(office)).key.text
    headers = {**AGAIN, "Authorization": f"Bearer {key}"}

    async def ask() -> tuple[int, bytes]:
        for _ in range(100):
            answer = await office.client.post("/v1/keys", headers=headers, json={"name": "arm 7"})
            if answer.status_code != 409:  # another attempt runs
                return answer.status_code, answer.content
            await asyncio.sleep(0.05)
        raise AssertionError("the first attempt never ended")

    answers = await asyncio.gather(*(ask() for _ in range(8)))
    assert len(set(answers)) == 1
    assert answers[0][0] == 201
    listed = (await asked(office, key, "GET", "/keys")).json()["keys"]
    assert [row["name"] for row in listed].count("arm 7") == 1
    assert not await kept_anywhere(redis, json.loads(answers[0][1])["api_key"])


async def test_another_wish_under_the_same_key_is_refused_and_makes_nothing(office: Office) -> None:
    key = (await customer_of(office)).key.text
    headers = {**AGAIN, "Authorization": f"Bearer {key}"}
    assert (await office.client.post("/v1/keys", headers=headers, json={"name": "arm 7"})).status_code == 201
    other = await office.client.post("/v1/keys", headers=headers, json={"name": "arm 8"})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")
    assert "arm 8" not in [row["name"] for row in (await asked(office, key, "GET", "/keys")).json()["keys"]]
