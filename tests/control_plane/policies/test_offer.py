"""Who gets which policy version: by request, by pin, by default; and what does not exist for whom."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from control_plane.errors import ApiError
from control_plane.policies.catalogue import Catalogue, ServedPolicy, load_catalogue
from control_plane.policies.offer import Offer
from control_plane.policies.standing import PolicyStanding, Standing, decode_standing, encode_standing
from tests.control_plane.fakes import ROOT, principal

SHIPPED = load_catalogue(ROOT / "model_repository", default="tabletop").policies["tabletop"]
CUSTOMER = principal()


def served(name: str, version: int, folder: str | None = None) -> ServedPolicy:
    manifest = SHIPPED.manifest.model_copy(update={"policy": name, "version": version})
    return replace(SHIPPED, manifest=manifest, folder=folder or name)


CATALOGUE = Catalogue(
    [served("tabletop", 1), served("tabletop", 2, "tabletop.2"), served("tabletop", 3, "tabletop.3"), served("other", 7)],
    "tabletop",
)


def offer(*states: PolicyStanding, **facts: Any) -> Offer:
    return Offer(catalogue=CATALOGUE, standing=Standing(policies={one.policy: one for one in states}, **facts))


def chosen(there: Offer, asked: str | None) -> tuple[str, int]:
    found = there.choose(CUSTOMER, asked)
    return found.name, found.version


def refusal(there: Offer, asked: str | None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        there.choose(CUSTOMER, asked)
    return caught.value


def names(found: Iterable[ServedPolicy]) -> list[tuple[str, int]]:
    return [(policy.name, policy.version) for policy in found]


def test_without_decisions_everybody_gets_the_version_in_the_policys_own_folder() -> None:
    assert chosen(offer(), None) == ("tabletop", 1)
    assert chosen(offer(), "tabletop") == ("tabletop", 1)
    assert chosen(offer(), "other") == ("other", 7)


def test_a_request_may_ask_for_a_version() -> None:
    assert chosen(offer(), "tabletop@3") == ("tabletop", 3)


@pytest.mark.parametrize(
    "asked", ["nobody", "tabletop@9", "tabletop@0", "tabletop@", "tabletop@one", "@1", "tabletop@1@2", "a@²"]
)
def test_what_does_not_exist_is_an_unknown_model(asked: str) -> None:
    found = refusal(offer(), asked)
    assert (found.kind.code, found.param) == ("unknown_model", "model")
    assert asked in found.message


def test_a_policy_that_is_off_does_not_exist() -> None:
    there = offer(PolicyStanding(policy="tabletop", is_enabled=False))
    assert refusal(there, "tabletop").message == refusal(offer(), "nobody").message.replace("nobody", "tabletop")
    assert refusal(there, "tabletop@1").kind.code == "unknown_model"
    assert refusal(there, None).kind.code == "unknown_model"
    assert names(there.visible(CUSTOMER)) == [("other", 7)]


def test_a_restricted_policy_exists_only_for_those_who_are_entitled() -> None:
    restricted = PolicyStanding(policy="other", is_restricted=True)
    assert refusal(offer(restricted), "other").message == refusal(offer(), "nobody").message.replace("nobody", "other")
    assert names(offer(restricted).visible(CUSTOMER)) == [("tabletop", 1)]
    stranger = offer(restricted, entitled=frozenset({(UUID(int=9), "other")}))
    assert refusal(stranger, "other@7").kind.code == "unknown_model"
    entitled = offer(restricted, entitled=frozenset({(CUSTOMER.customer_id, "other")}))
    assert chosen(entitled, "other") == ("other", 7)
    assert names(entitled.visible(CUSTOMER)) == [("other", 7), ("tabletop", 1)]


def test_an_operator_chooses_the_default_policy_and_the_default_version() -> None:
    there = offer(PolicyStanding(policy="other", is_default=True), PolicyStanding(policy="tabletop", default_version=2))
    assert chosen(there, None) == ("other", 7)
    assert chosen(there, "tabletop") == ("tabletop", 2)
    assert chosen(there, "tabletop@1") == ("tabletop", 1)
    assert there.name_of(None) == "other"


def test_a_pin_goes_before_the_default_and_after_the_request() -> None:
    pins = {CUSTOMER.customer_id.hex: {"tabletop": 3}}
    there = offer(PolicyStanding(policy="tabletop", default_version=2), pins=pins)
    assert chosen(there, None) == ("tabletop", 3)
    assert chosen(there, "tabletop@1") == ("tabletop", 1)
    assert there.choose(replace(CUSTOMER, customer_id=UUID(int=5)), None).version == 2


def test_a_version_that_is_off_cannot_be_asked_for_and_is_never_replaced() -> None:
    disabled = frozenset({("tabletop", 2)})
    there = offer(disabled=disabled)
    assert refusal(there, "tabletop@2").kind.code == "unknown_model"
    assert chosen(there, "tabletop") == ("tabletop", 1)
    assert there.versions("tabletop") == (1, 3)
    by_default = offer(PolicyStanding(policy="tabletop", default_version=2), disabled=disabled)
    assert refusal(by_default, "tabletop").kind.code == "policy_unavailable"
    by_pin = offer(pins={CUSTOMER.customer_id.hex: {"tabletop": 9}})
    assert refusal(by_pin, None).kind.code == "policy_unavailable"


def test_nothing_is_offered_while_nobody_can_say_what_has_been_decided() -> None:
    found = refusal(Offer(catalogue=CATALOGUE), None)
    assert (found.kind.code, found.retry_after_ms) == ("store_unavailable", 1000)


def test_sessions_of_two_versions_remember_nothing_of_each_other() -> None:
    there = offer()
    scopes = {there.scope(CUSTOMER, asked, session_id="ep-1") for asked in (None, "tabletop", "tabletop@2", "nobody")}
    assert scopes == {"tabletop", "tabletop.2", "nobody"}
    assert [there.name_of(asked) for asked in (None, "tabletop@2", "other", "@1")] == ["tabletop", "tabletop", "other", "@1"]


def test_a_standing_survives_its_travel_through_redis() -> None:
    there = offer(
        PolicyStanding(policy="tabletop", default_version=2, is_restricted=True),
        revision=7,
        bundles=2,
        disabled=frozenset({("other", 7)}),
        entitled=frozenset({(UUID(int=3), "tabletop")}),
        pins={UUID(int=3).hex: {"tabletop": 1}},
        draining=frozenset({"127.0.0.1:8001"}),
    ).standing
    assert there is not None
    assert decode_standing(encode_standing(there)) == there
    assert decode_standing(b"broken") is None
