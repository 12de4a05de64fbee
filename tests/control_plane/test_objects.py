"""The object store: S3 and the fake do the same, and every way of being away has one name."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.object_place import place_of
from control_plane.objects import NoSuchObjectError, ObjectStore, ObjectStoreAwayError, create_objects
from control_plane.settings import SettingsError, load_store_settings
from tests.conftest import free_port
from tests.control_plane.fake_objects import FakeObjects
from tests.control_plane.test_settings import STORES


@pytest.fixture(params=["s3", "fake"])
async def objects(request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    """Both implementations, empty."""
    store: ObjectStore = FakeObjects() if request.param == "fake" else create_objects(request.getfixturevalue("objects_url"))
    yield store
    await store.aclose()


async def test_what_was_put_is_read_and_replaced(objects: ObjectStore) -> None:
    await objects.put("a/one", b"first")
    await objects.put("a/one", b"second")
    assert await objects.get("a/one") == b"second"


async def test_a_file_of_several_parts_comes_back_whole_with_its_hash(objects: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(range(256)) * 48_000)  # 12 MB: more than one part
    await objects.put_file("big", tmp_path / "big")
    digest = await objects.get_file("big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "big").read_bytes()
    assert digest == hashlib.sha256((tmp_path / "big").read_bytes()).hexdigest()


async def test_a_listing_is_by_prefix_and_in_order(objects: ObjectStore) -> None:
    assert await objects.find("a/") == []
    for key in ("b/1", "a/2", "a/1/x", "ab"):
        await objects.put(key, key.encode())
    assert [(found.key, found.size_bytes) for found in await objects.find("a/")] == [("a/1/x", 5), ("a/2", 3)]


async def test_what_is_not_there_is_said_and_may_be_removed(objects: ObjectStore, tmp_path: Path) -> None:
    for _ in ("no bucket yet", "a bucket"):
        await objects.remove(["nothing"])
        with pytest.raises(NoSuchObjectError):
            await objects.get("nothing")
        with pytest.raises(NoSuchObjectError):
            await objects.get_file("nothing", tmp_path / "x")
        await objects.put("something", b"")
    await objects.remove(["something", "nothing"])
    assert await objects.find("") == []


async def test_a_wrong_secret_and_a_store_that_is_gone_are_both_away(objects_url: str) -> None:
    wrong = objects_url.replace("vlaapi:", "vlaapi:wrong", 1)
    gone = f"http://a:b@127.0.0.1:{free_port().number}/bucket"
    for url in (wrong, gone):
        store = create_objects(url, timeout_s=2.0)
        with pytest.raises(ObjectStoreAwayError) as away:
            await store.put("x", b"x")
        assert place_of(url).secret_key not in str(away.value) or url == gone
        await store.aclose()


def test_an_address_is_taken_apart_with_its_escapes_and_hides_its_secret() -> None:
    place = place_of("https://AKIA:se%2Fcr%2Bet@s3.eu-central-1.amazonaws.com/robots?region=eu-central-1")
    assert (place.endpoint, place.is_secure, place.bucket) == ("s3.eu-central-1.amazonaws.com", True, "robots")
    assert (place.access_key, place.secret_key, place.region) == ("AKIA", "se/cr+et", "eu-central-1")
    assert place_of("http://a:b@127.0.0.1:19000/b").endpoint == "127.0.0.1:19000"
    assert "cr+et" not in repr(place)


@pytest.mark.parametrize("url", ["s3://a:secret@h/b", "http://h/b", "http://a:secret@h/", "http://a:secret@h/b/c", "secret"])
def test_a_wrong_address_stops_the_start_and_is_not_repeated(url: str) -> None:
    with pytest.raises(SettingsError, match="VLA_OBJECT_STORE_URL") as refusal:
        load_store_settings(STORES | {"VLA_OBJECT_STORE_URL": url})
    assert "secret" not in str(refusal.value)
