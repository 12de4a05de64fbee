"""What the account's calls say of the service is what the OpenAPI document says."""

import re
from typing import Any

import pytest

from benchmarks.stack import Stack
from control_plane.protocols.openapi import document
from vlaapi_client import Client, InvalidRequest, account
from vlaapi_client.calls import Call

DOCUMENT = document()
CALLS: list[Call[Any]] = [
    account.usage(days=7),
    account.request("inf_1"),
    account.requests(status="success", limit=3),
    account.keys(),
    account.create_key(name="arm 7", robots=["franka_panda"]),
    account.rotate_key("key_1"),
    account.revoke_key("key_1"),
    account.current_month(),
    account.invoices(),
    account.invoice("inv_1"),
]
TYPES = (
    *("UsageReport", "Now", "DayUsage", "PolicyUsage", "RequestReport", "RequestPage", "KeyReport", "Keys", "KeyWish"),
    *("IssuedReport", "RotatedReport"),
)


def operation(call: Call[Any]) -> str | None:
    """The address in the document that a call goes to."""
    path = call.path.partition("?")[0]
    for template, methods in DOCUMENT["paths"].items():
        if call.method.lower() in methods and re.fullmatch(re.sub(r"\{\w+\}", "[^/.]+", template), path):
            return str(template)
    return None


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
def test_every_call_has_an_address(call: Call[Any]) -> None:
    assert operation(call) is not None
    assert ("Idempotency-Key" in call.headers) == (call.method == "POST")


@pytest.mark.parametrize("name", TYPES)
def test_every_type_has_the_fields_of_the_document(name: str) -> None:
    assert set(getattr(account, name).__annotations__) == set(DOCUMENT["components"]["schemas"][name]["properties"])


def test_an_id_stays_one_part_of_the_address() -> None:
    assert account.request("../usage?x=1").path == "/v1/requests/..%2Fusage%3Fx%3D1"


def test_usage_keys_and_requests_of_a_real_account(stack: Stack, url: str) -> None:
    with Client(url, stack.key) as client:
        report = client.ask(account.usage(days=1))
        issued = client.ask(account.create_key(name="arm 7", robots=["franka_panda"], per_minute=5))
        rotated = client.ask(account.rotate_key(issued["id"], overlap_hours=1))
        listed = client.ask(account.keys())["keys"]
        ended = client.ask(account.revoke_key(rotated["new"]["id"]))
        page = client.ask(account.requests(limit=2))
        with pytest.raises(InvalidRequest):
            client.ask(account.request("inf_00000000000000000000000000000000"))
    assert report["now"]["minute"]["limit"] == 1_000_000
    assert issued["api_key"].startswith("vla_live_")
    assert {issued["id"], rotated["new"]["id"]} <= {key["id"] for key in listed}
    assert ended
    assert len(page["data"]) <= 2
