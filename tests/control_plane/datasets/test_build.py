"""From captured episodes to a dataset and back: what is in it, what is left out, and what becomes of it after a deletion."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import insert

from control_plane.capture.asked import Wanted
from control_plane.capture.deletion import delete
from control_plane.capture.part import MANIFEST
from control_plane.capture.sample import Sample
from control_plane.capture.tables import feedback
from control_plane.datasets.build import build
from control_plane.datasets.built import Built
from control_plane.datasets.folder import MARKER
from control_plane.datasets.select import Asked
from control_plane.errors import ApiError
from control_plane.identity.data_policy import DataPolicy
from control_plane.identity.public_id import new_id
from control_plane.usage.request_id import instant_of
from lerobot_v3.reader import Dataset, open_dataset
from tests.control_plane.capture.conftest import House

FRONT = "observation.images.front"


async def shipped(house: House, *samples: Sample) -> None:
    house.write(*samples)
    await house.shipper().step()


def session(house: House, name: str, *, seed: int, length: int = 4, **values: Any) -> list[Sample]:
    return [house.sample(seed + step, session_id=name, **values) for step in range(length)]


async def say(house: House, outcome: str, **about: Any) -> None:
    row = {"id": new_id(), "customer_id": house.customer_id, "key_id": uuid4(), "outcome": outcome, **about}
    async with house.engine.begin() as connection:
        await connection.execute(insert(feedback).values(row))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def built(house: House, out: Path, **asked: Any) -> Built:
    return await build(house.engine, house.objects, Asked(**{"held_out": 0.0, **asked}), out)


def train_of(out: Path) -> Dataset:
    return open_dataset(out / "train")


async def test_frames_actions_and_feedback_come_through(house: House, tmp_path: Path) -> None:
    first, second = session(house, "a", seed=1), session(house, "b", seed=20, instruction="put it in the bowl")
    await shipped(house, *first, *second)
    await say(house, "success", session_id="a")
    corrected = [[0.5] * 7]
    await say(house, "correction", request_id=second[1].request_id, action=corrected)
    done = await built(house, tmp_path / "out")
    assert (done.episodes, done.frames, done.skipped) == ({"train": 2}, {"train": 8}, {})
    dataset = train_of(tmp_path / "out")
    assert (dataset.facts.fps, dataset.facts.robot_type) == (10, "franka_panda")
    assert [row.task for row in dataset.episodes] == ["pick up the red cube", "put it in the bowl"]
    one, two = (dataset.numbers(row) for row in dataset.episodes)
    np.testing.assert_array_equal(one["action"], np.array([sample.action[0] for sample in first if sample.action], np.float32))
    np.testing.assert_array_equal(one["observation.state"], np.array([sample.state for sample in first], np.float32))
    assert one["next.success"].tolist() == [False, False, False, True]
    assert two["next.success"].tolist() == [False] * 4
    assert two["is_correction"].tolist() == [False, True, False, False]
    np.testing.assert_array_equal(two["action"][1], np.array(corrected[0], np.float32))
    greens = [int(frame[10, 10, 1]) for frame in dataset.frames(dataset.episodes[1], FRONT)]
    assert greens == pytest.approx([(20 + step) * 11 % 256 for step in range(4)], abs=8)


async def test_only_what_may_be_used_is_used(house: House, tmp_path: Path) -> None:
    await shipped(house, *session(house, "whole", seed=1))
    await shipped(house, *session(house, "picked", seed=5, is_whole=False, kept_because=("reject",)))
    await shipped(house, *session(house, None, seed=9, is_whole=False))  # type: ignore[arg-type]  # without a session
    refused = session(house, "refused", seed=13, action=None, decision="reject")
    await shipped(house, *refused)
    done = await built(house, tmp_path / "out")
    assert (done.episodes, done.skipped) == ({"train": 1}, {"no action": 1})
    with pytest.raises(ApiError, match="no episode that may be used"):
        await built(house, tmp_path / "other", model="another")
    await house.agree(DataPolicy.STANDARD)
    with pytest.raises(ApiError, match="no episode that may be used"):
        await built(house, tmp_path / "withdrawn")


async def test_it_goes_on_with_what_has_come_since_and_takes_nothing_twice(house: House, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = session(house, "a", seed=1)
    await shipped(house, *first)
    assert (await built(house, out)).frames == {"train": 4}
    repeated = [house.sample(1 + step, session_id="sent again") for step in range(4)]
    await shipped(house, *session(house, "b", seed=30), *repeated)
    done = await built(house, out)
    assert done.skipped == {"there already": 1, "sent twice": 1}
    assert (done.episodes, done.frames) == ({"train": 2}, {"train": 8})
    assert len(train_of(out).episodes) == 2


async def test_sessions_are_on_one_side_only(house: House, tmp_path: Path) -> None:
    for number in range(12):
        await shipped(house, *session(house, f"s{number}", seed=number * 10, length=2))
    done = await built(house, tmp_path / "out", held_out=0.4)
    assert done.episodes.total() == 12
    assert set(done.episodes) == {"train", "held_out"}
    sides = [
        {(row.source or "").partition(".")[0] for row in open_dataset(tmp_path / "out" / side).episodes} for side in done.episodes
    ]
    assert not sides[0] & sides[1]


async def test_a_folder_keeps_the_share_that_it_holds_out(house: House, tmp_path: Path) -> None:
    for number in range(6):
        await shipped(house, *session(house, f"s{number}", seed=number * 10, length=2))
    await built(house, tmp_path / "out", held_out=0.0)
    with pytest.raises(ApiError, match=r"holds out a share of 0\.0") as refused:
        await built(house, tmp_path / "out", held_out=0.9)
    assert refused.value.param == "held_out"
    assert names_in(tmp_path / "out") == [MARKER, "train"]
    assert len(train_of(tmp_path / "out").episodes) == 6


async def test_the_first_build_says_what_every_later_episode_must_be_like(house: House, tmp_path: Path) -> None:
    out = tmp_path / "out"
    await shipped(house, *session(house, "a", seed=1))
    await built(house, out)
    stateless = session(house, "b", seed=20, state=None)
    await shipped(house, *stateless)
    await shipped(house, *session(house, "c", seed=40))
    done = await built(house, out, since=instant_of(stateless[0].request_id))
    assert (done.episodes, done.skipped) == ({"train": 2}, {"missing state": 1})
    with pytest.raises(ApiError, match="the dataset that is there has 10") as refused:
        await build(house.engine, house.objects, Asked(held_out=0.0), out, fps=5)
    assert refused.value.param == "fps"


async def test_what_was_deleted_is_gone_from_the_dataset_at_its_next_build(house: House, tmp_path: Path) -> None:
    out = tmp_path / "out"
    await shipped(house, *session(house, "stays", seed=1), *session(house, "goes", seed=50))
    await build(house.engine, house.objects, Asked(held_out=0.0), out, fps=5)
    proof = await delete(house.places(), Wanted(customer_id=house.customer_id, session_id="goes"))
    assert proof.dataset_members == 1
    (tmp_path / "out.deleted").mkdir()  # where an earlier removal was killed before its last step
    with pytest.raises(ApiError, match="the dataset that is there has 5"):
        await build(house.engine, house.objects, Asked(held_out=0.0), out, fps=10)
    done = await built(house, out)
    assert (done.is_rebuilt, done.episodes, train_of(out).facts.fps) == (True, {"train": 1}, 5)
    assert [name for name in names_in(tmp_path) if name.startswith("out")] == ["out"]
    await delete(house.places(), Wanted(customer_id=house.customer_id))
    emptied = await built(house, out)
    assert (emptied.is_rebuilt, emptied.episodes.total()) == (True, 0)
    assert names_in(out) == [MARKER]


class Deleting:
    """A real store; after that many manifests were read, a session is deleted. Everything else is the store's own."""

    def __init__(self, house: House, session_id: str, *, after: int) -> None:
        self._house, self._after = house, after
        self._wanted = Wanted(customer_id=house.customer_id, session_id=session_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._house.objects, name)

    async def get(self, key: str) -> bytes:
        """See ObjectStore."""
        data = await self._house.objects.get(key)
        if key.endswith(MANIFEST):
            self._after -= 1
        elif self._after == 0:
            self._after = -1
            assert (await delete(self._house.places(), self._wanted)).left == ()
        return data


@pytest.mark.parametrize("after", [1, 3])  # read and not yet taken; taken while others are read
async def test_what_is_deleted_while_it_is_built_is_not_in_it(house: House, tmp_path: Path, after: int) -> None:
    for seed, name in enumerate(("goes", "stays", "stays too")):
        await shipped(house, *session(house, name, seed=30 * seed, length=2))
    store = Deleting(house, "goes", after=after)
    done = await build(house.engine, store, Asked(held_out=0.0), tmp_path / "out")
    assert (done.episodes, done.frames) == ({"train": 2}, {"train": 4})
    assert done.is_rebuilt == (after == 3)


async def test_an_object_that_was_changed_is_left_out(house: House, tmp_path: Path) -> None:
    await shipped(house, *session(house, "good", seed=1))
    await shipped(house, *session(house, "bad", seed=60))
    bad = next(manifest for manifest in await house.manifests() if manifest.session_id == "bad")
    await house.objects.put(bad.parts[0].key, await house.objects.get(bad.parts[0].key) + b"\0")
    done = await built(house, tmp_path / "out")
    assert (done.episodes, done.skipped) == ({"train": 1}, {"damaged": 1})


async def test_an_episode_that_lacks_a_camera_or_state_is_skipped_not_filled_up(house: House, tmp_path: Path) -> None:
    await shipped(house, *session(house, "a", seed=1))
    await shipped(house, *session(house, "b", seed=20, state=None))
    await shipped(house, *session(house, "c", seed=40, shots=()))
    done = await built(house, tmp_path / "out")
    assert done.skipped == {"missing state": 1, "missing camera": 1}


async def test_a_folder_of_something_else_is_refused(house: House, tmp_path: Path) -> None:
    await shipped(house, *session(house, "a", seed=1))
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(ApiError, match="neither empty nor a dataset"):
        await built(house, tmp_path)
    assert (tmp_path / "mine").read_text() == "precious"
