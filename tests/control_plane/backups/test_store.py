"""Streams in parts: whole or not there; whatever is done to the objects in the bucket is noticed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from control_plane.backups.manifest import Facts, Kind, Manifest, manifest_key, new_id, part_key
from control_plane.backups.places import chosen
from control_plane.backups.sealing import DamagedBackupError, key_id
from control_plane.backups.store import NoSuchBackupError, Vault, Written
from control_plane.objects import ObjectStoreAwayError
from tests.control_plane.backups.conftest import KEY, OWNER
from tests.control_plane.fake_objects import FakeObjects

NOW = datetime(2026, 11, 27, 3, tzinfo=UTC)
PIECES = [b"first", b"second", b"third"]


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    """Those pieces."""
    for piece in pieces:
        yield piece


def manifest_of(backup_id: str, written: Written, key: bytes = KEY) -> Manifest:
    """A manifest of what was written."""
    return Manifest(
        id=backup_id,
        kind=Kind.DATABASE,
        began_at=NOW,
        ended_at=NOW,
        key_id=key_id(key),
        facts=Facts(server_version="18", wal_position="0/0"),
        sha256=written.sha256,
        size_bytes=written.size_bytes,
        parts=written.parts,
    )


async def kept(vault: Vault, *pieces: bytes) -> Manifest:
    """A complete backup of that stream."""
    backup_id = new_id(Kind.DATABASE, NOW, owner=OWNER)
    manifest = manifest_of(backup_id, await vault.write(backup_id, stream(*pieces)))
    await vault.commit(manifest)
    return manifest


async def read(vault: Vault, manifest: Manifest) -> list[bytes]:
    """All of it."""
    return [piece async for piece in vault.read(manifest)]


@pytest.fixture
def vault(fake: FakeObjects) -> Vault:
    """Over a store in memory."""
    return Vault(objects=fake, key=KEY)


@pytest.mark.parametrize("pieces", [[], [b"one"], PIECES])
async def test_a_stream_comes_back_as_it_went(vault: Vault, pieces: list[bytes]) -> None:
    manifest = await kept(vault, *pieces)
    assert await read(vault, await vault.manifest(manifest.id)) == (pieces or [b""])
    assert await vault.ids() == [manifest.id]


async def test_parts_that_are_missing_swapped_or_changed_are_noticed(vault: Vault, fake: FakeObjects) -> None:
    manifest = await kept(vault, *PIECES)
    keys, whole = [part_key(manifest.id, number) for number in range(3)], dict(fake.kept)
    for damage in (
        {keys[0]: whole[keys[1]], keys[1]: whole[keys[0]]},
        {keys[2]: whole[keys[2]][:-1]},
        {keys[1]: bytes(len(whole[keys[1]]))},
    ):
        fake.kept = {**whole, **damage}
        with pytest.raises(DamagedBackupError, match="is not what was written"):
            await read(vault, manifest)
    fake.kept = {key: data for key, data in whole.items() if key != keys[1]}
    with pytest.raises(DamagedBackupError, match="part 1 is missing"):
        await read(vault, manifest)


async def test_a_manifest_that_forgets_the_last_part_is_no_manifest(vault: Vault, fake: FakeObjects) -> None:
    """Truncated by somebody who may write to the bucket and lacks the key; and by a defect of ours that signs it."""
    manifest = await kept(vault, *PIECES)
    short = Written(parts=manifest.parts[:2], sha256=manifest.sha256, size_bytes=manifest.size_bytes)
    with pytest.raises(DamagedBackupError, match="does not open"):
        await read(vault, manifest_of(manifest.id, short))
    text = fake.kept[manifest_key(manifest.id)]
    fake.kept[manifest_key(manifest.id)] = text.replace(b'"wal_position":"0/0"', b'"wal_position":"0/1"')
    with pytest.raises(DamagedBackupError, match="was changed"):
        await vault.manifest(manifest.id)


async def test_another_backups_manifest_under_this_name_is_refused(vault: Vault, fake: FakeObjects) -> None:
    one, other = await kept(vault, b"one"), await kept(vault, b"other")
    fake.kept[manifest_key(one.id)] = fake.kept[manifest_key(other.id)]
    with pytest.raises(DamagedBackupError, match="was changed"):
        await vault.manifest(one.id)


async def test_another_key_is_named_and_nothing_is_opened(vault: Vault, fake: FakeObjects) -> None:
    manifest = await kept(vault, *PIECES)
    stranger = Vault(objects=fake, key=b"another key of the right length, at least")
    with pytest.raises(DamagedBackupError, match=f"was made with the key {key_id(KEY)}"):
        await stranger.manifest(manifest.id)


async def test_what_was_cut_short_is_no_backup_and_is_swept(vault: Vault, fake: FakeObjects) -> None:
    whole = await kept(vault, b"whole")
    fake.fails = lambda verb, key: verb == "put" and key.endswith("/000001")
    with pytest.raises(ObjectStoreAwayError):
        await kept(vault, *PIECES)
    fake.fails = lambda _verb, _key: False
    assert await vault.ids() == [whole.id]
    assert len(await vault.sweep()) == 1
    assert {key for key in fake.kept if "/parts/" in key} == {part_key(whole.id, 0)}
    assert await vault.sweep() == []


async def test_what_another_key_made_in_the_same_place_is_never_removed(vault: Vault, fake: FakeObjects) -> None:
    """Complete, still being written, or cut short: none of it is ours to judge."""
    stranger = Vault(objects=fake, key=b"another key of the right length, at least")
    theirs = new_id(Kind.DATABASE, NOW, owner=stranger.owner)
    complete = manifest_of(theirs, await stranger.write(theirs, stream(*PIECES)), key=stranger.key)
    await stranger.commit(complete)
    await stranger.write(new_id(Kind.BASE, NOW, owner=stranger.owner), stream(*PIECES))
    unnamed = f"database-{NOW:%Y%m%dT%H%M%SZ}-{'0' * 16}"  # from before names held an owner
    await stranger.commit(manifest_of(unnamed, await stranger.write(unnamed, stream(b"old")), key=stranger.key))
    before = dict(fake.kept)
    assert await vault.sweep() == []
    assert (await vault.ids(), await vault.all_ids()) == ([unnamed], sorted([theirs, unnamed]))
    for backup_id in (theirs, unnamed):
        with pytest.raises(DamagedBackupError, match="was made with the key"):
            await vault.remove(backup_id)
    with pytest.raises(DamagedBackupError, match="was made with the key"):
        await chosen(vault, "newest")
    assert fake.kept == before
    await stranger.remove(unnamed)
    with pytest.raises(NoSuchBackupError, match=f"made with the key {OWNER} .*, only of {stranger.owner}"):
        await chosen(vault, "newest")


async def test_a_removed_backup_is_gone_and_one_cut_short_while_removed_is_no_backup(vault: Vault, fake: FakeObjects) -> None:
    one, other = await kept(vault, *PIECES), await kept(vault, *PIECES)
    await vault.remove(one.id)
    fake.fails = lambda verb, key: verb == "remove" and "/parts/" in key
    with pytest.raises(ObjectStoreAwayError):
        await vault.remove(other.id)
    fake.fails = lambda _verb, _key: False
    with pytest.raises(NoSuchBackupError, match="vlaapi backup list"):
        await vault.manifest(other.id)
    assert await vault.sweep() == [other.id]
    assert fake.kept == {}


async def test_writing_holds_two_pieces_at_a_time(vault: Vault) -> None:
    """A stream is not run ahead of: memory stays as it is however large the database is."""
    given = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(20):
            given += 1
            yield b"x" * 1000
            await asyncio.sleep(0)
            assert given - len(vault_parts()) <= 2

    def vault_parts() -> list[str]:
        assert isinstance(vault.objects, FakeObjects)
        return [key for key in vault.objects.kept if "/parts/" in key]

    written = await vault.write(new_id(Kind.DATABASE, NOW, owner=OWNER), pieces())
    assert (len(written.parts), written.size_bytes) == (20, 20_000)
