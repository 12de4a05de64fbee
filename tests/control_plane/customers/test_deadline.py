"""A customer's own deadline reaches every process with the key."""

import pytest

from control_plane.customers.verbs import set_deadline
from control_plane.errors import ApiError
from control_plane.keys.verbs import Stores
from tests.control_plane.eventually import eventually
from tests.control_plane.keys.conftest import Observing, a_customer


async def test_it_holds_from_the_next_request_on_and_can_be_taken_back(stores: Stores, observing: Observing) -> None:
    created = await a_customer(stores)
    key = f"Bearer {created.key.text}"
    async with observing() as process:
        assert (await process.authenticator.authenticate(key)).deadline_ms is None
        for wanted in (150, None):
            changed = await set_deadline(stores, created.customer.id, wanted)
            assert changed.customer.deadline_ms == wanted

            async def is_seen(wanted: int | None = wanted) -> bool:
                return (await process.authenticator.authenticate(key)).deadline_ms == wanted

            await eventually(is_seen)


@pytest.mark.parametrize("deadline_ms", [0, -1, 600_001])
async def test_what_is_no_deadline_is_refused_by_name(stores: Stores, deadline_ms: int) -> None:
    created = await a_customer(stores)
    with pytest.raises(ApiError) as refused:
        await set_deadline(stores, created.customer.id, deadline_ms)
    assert refused.value.param == "deadline_ms"
