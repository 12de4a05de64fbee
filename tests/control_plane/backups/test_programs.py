"""Programs as streams: in pieces, with their failures in their own words, and gone when nobody wants them any more."""

import sys
from collections.abc import AsyncIterator
from contextlib import aclosing

import psutil
import pytest

from control_plane.backups.manifest import PART_BYTES
from control_plane.backups.programs import ProgramError, feed, pieces_of, place_of_database


async def endless() -> AsyncIterator[bytes]:
    """More than any pipe holds."""
    while True:
        yield b"x" * 100_000


async def test_output_comes_in_pieces_of_one_size() -> None:
    sizes = [len(piece) async for piece in pieces_of(("head", "-c", str(3 * PART_BYTES + 5), "/dev/zero"), {})]
    assert sum(sizes) == 3 * PART_BYTES + 5
    assert max(sizes) <= PART_BYTES + (1 << 20)


async def test_a_program_that_fails_gives_no_last_piece() -> None:
    code = "import sys; sys.stdout.write('almost all'); sys.stdout.flush(); sys.exit('first line\\nthe disk is full')"
    pieces: list[bytes] = []

    async def take() -> None:
        async for piece in pieces_of((sys.executable, "-c", code), {}):
            pieces.append(piece)

    with pytest.raises(ProgramError, match=r"^the disk is full$"):
        await take()
    assert pieces == []


async def test_a_program_that_stops_reading_says_why() -> None:
    with pytest.raises(ProgramError, match="no room"):
        await feed((sys.executable, "-c", "import sys; sys.exit('no room')"), {}, endless())


async def test_a_program_that_is_not_there_is_named_with_the_setting() -> None:
    with pytest.raises(ProgramError, match="VLA_POSTGRES_PROGRAMS"):
        await feed(("/nowhere/pg_restore",), {}, endless())


async def test_a_stream_that_is_given_up_ends_its_program() -> None:
    async with aclosing(pieces_of(("sh", "-c", "echo $$; exec cat /dev/zero"), {})) as pieces:
        program = int((await anext(pieces)).partition(b"\n")[0])
        assert psutil.pid_exists(program)
    assert not psutil.pid_exists(program)


def test_a_password_goes_into_the_environment_only() -> None:
    place = place_of_database("postgresql://vla:s%40cret@db.example:6432/vlaapi?sslmode=verify-full")
    assert place["PGPASSWORD"] == "s@cret"
    assert (place["PGHOST"], place["PGPORT"], place["PGUSER"], place["PGDATABASE"]) == ("db.example", "6432", "vla", "vlaapi")
    assert place["PGSSLMODE"] == "verify-full"
