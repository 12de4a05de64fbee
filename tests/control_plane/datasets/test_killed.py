"""A build that is killed: the next one goes on, reads nothing twice, and leaves nothing that was deleted."""

import asyncio
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control_plane.capture.asked import Wanted
from control_plane.capture.deletion import delete
from control_plane.datasets import folder
from control_plane.datasets.build import build
from control_plane.datasets.folder import MARKER
from control_plane.datasets.select import Asked
from control_plane.errors import ApiError
from control_plane.objects import ObjectStore, ObjectStoreAwayError
from lerobot_v3.reader import open_dataset
from tests.control_plane.capture.conftest import House
from tests.control_plane.datasets.test_build import built, names_in, session, shipped
from tests.control_plane.identity.conftest import PEPPER
from tests.control_plane.test_cli import inherited

ASKED = Asked(held_out=0.0)
# SIGKILL itself, at the 14th frame: three sessions of four frames are committed, the fourth is half in its video.
BUILD_AND_DIE = """
import os, signal, sys
import control_plane.datasets.build as build
from control_plane.cli import main
from lerobot_v3.video import VideoFile
build.SHARD_FRAMES = 4
add, left = VideoFile.add, iter(range(13))
def add_or_die(self, picture):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, picture)
VideoFile.add = add_or_die
main(["data", "build", "--held-out", "0", "--out", sys.argv[1]])
"""


class Killed(BaseException):
    """The process ends here."""


class Watched:
    """The real store; which objects were read, and the store is gone after so many."""

    def __init__(self, objects: ObjectStore, *, away_after: int = 10**9) -> None:
        self.read: Counter[str] = Counter()
        self._objects, self._away_after = objects, away_after

    async def get(self, key: str) -> bytes:
        if self.read.total() >= self._away_after:
            raise ObjectStoreAwayError("gone")
        self.read[key] += 1
        return await self._objects.get(key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)


def sessions_in(out: Path) -> Counter[str]:
    return Counter((row.source or "").partition(".")[0] for row in open_dataset(out / "train").episodes)


async def six_sessions(house: House) -> list[str]:
    """Their ids, by age."""
    for number in range(6):
        await shipped(house, *session(house, f"s{number}", seed=number * 10))
    return sorted(manifest.episode.hex for manifest in await house.manifests())


async def test_a_killed_build_goes_on_with_the_first_session_that_is_missing(
    house: House, database_url: str, clean_redis_url: str, objects_url: str, tmp_path: Path
) -> None:
    episodes, out = await six_sessions(house), tmp_path / "out"
    environment = inherited() | {"VLA_DATABASE_URL": database_url, "VLA_REDIS_URL": clean_redis_url}
    environment |= {"VLA_KEY_PEPPER": PEPPER.decode(), "VLA_OBJECT_STORE_URL": objects_url}
    argv = [sys.executable, "-c", BUILD_AND_DIE, str(out)]
    died = await asyncio.to_thread(subprocess.run, argv, env=environment, capture_output=True, check=False)
    assert died.returncode == -9, died.stderr
    watched = Watched(house.objects)
    done = await build(house.engine, watched, ASKED, out)
    assert done.skipped == {"there already": 3}
    assert sessions_in(out) == dict.fromkeys(episodes, 1)
    read = {key.partition("/ep=")[2].partition("/")[0] for key in watched.read}
    assert read == set(episodes[3:])
    dataset = open_dataset(out / "train")
    greens = [int(next(iter(dataset.frames(row, "observation.images.front")))[10, 10, 1]) for row in dataset.episodes]
    assert greens == pytest.approx([number * 10 * 11 % 256 for number in range(6)], abs=8)


WITHOUT_AV = """
import sys
sys.modules["av"] = None
import control_plane.app, control_plane.worker
from control_plane.cli import main
main(["data", "build", "--out", "never"])
"""


def test_what_serves_needs_no_encoder_and_the_build_says_that_it_does() -> None:
    """So that an image without its GPL parts serves (decision 42)."""
    argv = [sys.executable, "-c", WITHOUT_AV]
    done = subprocess.run(argv, env=inherited(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "vlaapi: building a dataset needs PyAV, which is not installed here: pip install av.\n",
    )


async def test_what_was_read_before_the_store_went_away_is_not_read_again(house: House, tmp_path: Path) -> None:
    episodes, out = await six_sessions(house), tmp_path / "out"
    first = Watched(house.objects, away_after=7)
    with pytest.raises(ObjectStoreAwayError):
        await build(house.engine, first, ASKED, out)
    second = Watched(house.objects)
    done = await build(house.engine, second, ASKED, out)
    assert done.skipped["there already"] >= 2
    assert sessions_in(out) == dict.fromkeys(episodes, 1)
    assert (first.read + second.read).total() < 2 * 6 + 4  # a manifest and a part each, and the one or two that were under way


def nth_rename(number: int, patch: pytest.MonkeyPatch) -> None:
    rename, calls = Path.rename, iter(range(1, 10**6))

    def rename_or_die(self: Path, target: Path) -> Path:
        if next(calls) == number:
            raise Killed
        return rename(self, target)

    patch.setattr(Path, "rename", rename_or_die)


def while_removing(patch: pytest.MonkeyPatch) -> None:
    rmtree = shutil.rmtree

    def remove_half(path: Path) -> None:
        rmtree(path)
        raise Killed

    patch.setattr(shutil, "rmtree", remove_half)


@pytest.mark.parametrize(
    "die",
    [lambda patch: nth_rename(1, patch), lambda patch: nth_rename(2, patch), while_removing],
    ids=["before", "between", "after"],
)
async def test_killed_while_one_takes_the_others_place_the_next_run_leaves_one_without_the_deleted(
    house: House, tmp_path: Path, die: Callable[[pytest.MonkeyPatch], None]
) -> None:
    out = tmp_path / "data" / "out"
    await shipped(house, *session(house, "stays", seed=1), *session(house, "goes", seed=50))
    await built(house, out)
    await delete(house.places(), Wanted(customer_id=house.customer_id, session_id="goes"))
    with pytest.MonkeyPatch.context() as patch:
        die(patch)
        with pytest.raises(Killed):
            await built(house, out)
    watched = Watched(house.objects)
    done = await build(house.engine, watched, ASKED, out)
    assert (done.episodes, done.frames) == ({"train": 1}, {"train": 4})
    assert not watched.read  # what had been rebuilt was not built again
    assert len(open_dataset(out / "train").episodes) == 1
    assert names_in(out.parent) == ["out"]


async def test_a_rebuild_that_was_killed_goes_on_and_another_wish_begins_it_anew(house: House, tmp_path: Path) -> None:
    episodes, out = await six_sessions(house), tmp_path / "data" / "out"
    await built(house, out)
    await delete(house.places(), Wanted(customer_id=house.customer_id, session_id="s0"))
    with pytest.raises(ObjectStoreAwayError):
        await build(house.engine, Watched(house.objects, away_after=7), ASKED, out)
    assert names_in(out.parent) == ["out", "out.rebuilding"]
    with pytest.raises(ObjectStoreAwayError):
        await build(house.engine, Watched(house.objects, away_after=0), Asked(held_out=0.0, robot_type="franka_panda"), out)
    assert names_in(folder.rebuilding(out)) == [MARKER]
    with pytest.raises(ObjectStoreAwayError):
        await build(house.engine, Watched(house.objects, away_after=7), ASKED, out)
    done = await build(house.engine, house.objects, ASKED, out)
    assert (done.is_rebuilt, done.skipped["there already"] >= 2) == (True, True)
    assert sessions_in(out) == dict.fromkeys(episodes[1:], 1)
    assert names_in(out.parent) == ["out"]


async def test_somebody_elses_folder_of_that_name_is_not_touched(house: House, tmp_path: Path) -> None:
    await shipped(house, *session(house, "a", seed=1))
    theirs = tmp_path / "out.deleted"
    theirs.mkdir()
    (theirs / "mine").write_text("precious")
    with pytest.raises(ApiError, match="is in the way"):
        await built(house, tmp_path / "out")
    assert (theirs / "mine").read_text() == "precious"
