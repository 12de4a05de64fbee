"""Slots are shared by weight, a burst waits behind itself, nobody waits past their deadline, and no slot is ever lost."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from uuid import UUID, uuid4

import pytest

from billing.tiers import Tier
from control_plane.errors import ApiError
from control_plane.identity.principal import Principal
from control_plane.inference.deadline import Deadline
from control_plane.inference.fair_queue import FairQueue
from control_plane.metrics import Metrics, create_metrics
from tests.control_plane.fakes import principal


def customer(tier: Tier = Tier.PRO) -> Principal:
    return replace(principal(tier=tier), customer_id=uuid4())


def within(seconds: float) -> Deadline:
    return Deadline(ends_s=perf_counter() + seconds, param="deadline_ms")


class House:
    """A queue for one policy, whose requests end when they are told."""

    def __init__(self, slots: int | Callable[[], int] = 1) -> None:
        self.metrics: Metrics = create_metrics()
        self.queue = FairQueue(slots=slots if callable(slots) else lambda: slots, metrics=self.metrics.fleet)
        self.begun: list[UUID] = []
        self.ends: list[asyncio.Event] = []
        self.priorities: list[int] = []

    async def request(self, who: Principal, *, seconds: float = 60.0) -> None:
        async with self.queue.slot("tabletop", who, within(seconds)) as slot:
            end = asyncio.Event()
            self.begun.append(who.customer_id)
            self.priorities.append(slot.priority)
            self.ends.append(end)
            await end.wait()

    def send(self, who: Principal, count: int = 1, *, seconds: float = 60.0) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.request(who, seconds=seconds)) for _ in range(count)]

    async def end_oldest(self, count: int = 1) -> None:
        for _ in range(count):
            self.ends.pop(0).set()
            await settled()

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_while_there_is_room_nobody_waits() -> None:
    house, who = House(3), customer()
    tasks = house.send(who, 3)
    await settled()
    assert len(house.begun) == 3
    assert house.sample("vla_fair_queue_waiting", policy="tabletop") == 0
    await house.end_oldest(3)
    await asyncio.gather(*tasks)


async def test_a_single_request_goes_before_another_customers_burst() -> None:
    house, burst, victim = House(2), customer(), customer()
    tasks = house.send(burst, 50)
    await settled()
    tasks += house.send(victim)
    await settled()
    await house.end_oldest(2)
    assert house.begun.index(victim.customer_id) <= 3
    await house.end_oldest(49)
    await asyncio.gather(*tasks)


async def test_customers_share_by_the_weight_of_their_tier() -> None:
    house = House(1)
    by_tier = {tier: customer(tier) for tier in Tier}
    tasks = [task for who in by_tier.values() for task in house.send(who, 200)]
    await settled()
    await house.end_oldest(260)
    got = Counter(house.begun[1:261])
    shares = {tier: got[who.customer_id] for tier, who in by_tier.items()}
    assert shares[Tier.ENTERPRISE] == pytest.approx(2 * shares[Tier.PRO], abs=3)
    assert shares[Tier.PRO] == pytest.approx(4 * shares[Tier.FREE], abs=6)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_customers_requests_keep_their_order() -> None:
    house, who = House(1), customer()
    order: list[int] = []

    async def numbered(number: int) -> None:
        async with house.queue.slot("tabletop", who, within(60)):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(numbered(number) for number in range(20)))
    assert order == list(range(20))


async def test_each_policy_has_slots_of_its_own() -> None:
    house, who = House(1), customer()
    tasks = house.send(who, 2)
    await settled()
    async with house.queue.slot("another", who, within(60)) as slot:
        assert not slot.has_waited
    await house.end_oldest(2)
    await asyncio.gather(*tasks)


async def test_who_waits_past_the_deadline_hears_that_it_is_exceeded_and_holds_up_nobody() -> None:
    house, who = House(1), customer()
    (first,) = house.send(who)
    await settled()
    (late,) = house.send(customer(), seconds=0.05)
    (third,) = house.send(customer())
    with pytest.raises(ApiError) as caught:
        await late
    assert (caught.value.kind.code, caught.value.param) == ("deadline_exceeded", "deadline_ms")
    assert house.sample("vla_fair_queue_shed_total", reason="too_late") == 1
    await house.end_oldest(2)
    await asyncio.gather(first, third)


async def test_who_could_not_be_in_time_is_turned_away_at_once_with_when_to_come_back() -> None:
    house, who = House(1), customer()
    tasks = house.send(who, 8)
    await settled()
    for _ in range(4):  # so that it is known how fast places become free
        await asyncio.sleep(0.05)
        await house.end_oldest()
    with pytest.raises(ApiError) as caught:
        async with house.queue.slot("tabletop", who, within(0.02)):
            pass
    assert caught.value.kind.code == "overloaded"
    assert caught.value.retry_after_ms is not None
    assert caught.value.retry_after_ms >= 100
    assert house.sample("vla_fair_queue_shed_total", reason="too_far") == 1
    await house.end_oldest(4)
    await asyncio.gather(*tasks)


async def test_a_cancelled_request_leaves_no_gap() -> None:
    house = House(1)
    tasks = house.send(customer(), 3)
    await settled()
    tasks[1].cancel()
    await settled()
    await house.end_oldest(2)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(house.begun) == 2
    assert house.sample("vla_fair_queue_waiting", policy="tabletop") == 0


async def test_a_slot_given_in_the_moment_of_a_cancellation_goes_on_to_the_next() -> None:
    house = House(1)
    tasks = house.send(customer(), 3)
    await settled()
    house.ends.pop(0).set()
    await asyncio.sleep(0)  # the first leaves and hands its slot to the second, which has not run yet
    tasks[1].cancel()
    await settled()
    await house.end_oldest()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with house.queue.slot("tabletop", customer(), within(60)) as slot:
        assert not slot.has_waited


async def test_a_replica_more_means_slots_more() -> None:
    slots = 1
    house = House(lambda: slots)
    tasks = house.send(customer(), 4)
    await settled()
    slots = 3
    await house.end_oldest()
    assert len(house.begun) == 4
    await house.end_oldest(3)
    await asyncio.gather(*tasks)


async def test_enterprise_goes_first_in_triton_but_for_a_quarter_of_the_slots_only() -> None:
    house = House(8)
    tasks = [*house.send(customer(Tier.ENTERPRISE), 6), *house.send(customer(Tier.PRO), 2)]
    await settled()
    assert house.priorities == [1, 1, 2, 2, 2, 2, 2, 2]
    await house.end_oldest(8)
    await asyncio.gather(*tasks)
    house.send(customer(Tier.ENTERPRISE))
    await settled()
    assert house.priorities[-1] == 1
    await house.end_oldest()


async def test_whatever_happens_every_slot_comes_back() -> None:
    random.seed(7)
    house = House(3)
    customers = [customer(tier) for tier in Tier for _ in range(3)]

    async def unruly() -> None:
        async with house.queue.slot("tabletop", random.choice(customers), within(random.choice([0.001, 0.01, 5.0]))):
            await asyncio.sleep(random.choice([0, 0.001, 0.003]))
            if random.random() < 0.1:
                raise ValueError("broken")

    tasks = [asyncio.create_task(unruly()) for _ in range(400)]
    for task in random.sample(tasks, 60):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    held = [house.queue.slot("tabletop", customers[0], within(5.0)) for _ in range(3)]
    for slot in held:
        await slot.__aenter__()
        assert not slot.has_waited
    assert house.sample("vla_fair_queue_waiting", policy="tabletop") == 0
