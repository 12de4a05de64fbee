"""PostgreSQL's own programs as streams: what pg_dump writes comes in pieces, what pg_restore reads goes in pieces.

Where the database is goes into their environment, never into the process list. A program that fails says why in the last line of
its error output, which is raised. Its end is waited for and checked before the last piece is given on.
"""

import asyncio
import contextlib
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sqlalchemy import make_url

from control_plane.backups.manifest import PART_BYTES

_READ_BYTES = 1 << 20
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "LANG")


class ProgramError(Exception):
    """A program of PostgreSQL could not do its work; the text is its own last line."""


def place_of_database(url: str, *, database: str | None = None) -> dict[str, str]:
    """A database's address as libpq's environment variables."""
    parts = make_url(url)
    names = {
        "PGHOST": parts.host or parts.query.get("host"),
        "PGPORT": None if parts.port is None else str(parts.port),
        "PGUSER": parts.username,
        "PGPASSWORD": parts.password,
        "PGDATABASE": database or parts.database,
        "PGSSLMODE": parts.query.get("sslmode"),
        "PGSSLROOTCERT": parts.query.get("sslrootcert"),
    }
    return {name: value for name, value in names.items() if isinstance(value, str)} | {"PGCONNECT_TIMEOUT": "10"}


def environment_of(place: Mapping[str, str]) -> dict[str, str]:
    """What a program of PostgreSQL is given of our own environment, and that."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | dict(place)


def program(folder: Path | None, name: str) -> str:
    """The program of that folder, else the one on PATH."""
    return name if folder is None else str(folder / name)


async def pieces_of(argv: Sequence[str], place: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
    """What the program writes, in pieces of PART_BYTES. Raises ProgramError instead of the last piece when it fails."""
    async with _running(argv, place, is_fed=False) as running:
        piece = bytearray()
        while data := await running.written.read(_READ_BYTES):
            piece += data
            if len(piece) >= PART_BYTES:
                yield bytes(piece)
                piece.clear()
        await running.ended_well()
        if piece:
            yield bytes(piece)


async def feed(argv: Sequence[str], place: Mapping[str, str], pieces: AsyncIterator[bytes]) -> None:
    """Gives the program what it reads. Raises ProgramError; what `pieces` raises ends the program before it can finish."""
    async with _running(argv, place, is_fed=True) as running:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has ended already, and says why
            async for piece in pieces:
                running.read.write(piece)
                await running.read.drain()
            running.read.close()
            await running.read.wait_closed()
        await running.ended_well()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """A program at work: what it writes, what it reads, and the end of what it complains about."""

    process: Process
    said: "asyncio.Task[bytes]"

    @property
    def written(self) -> asyncio.StreamReader:
        return cast("asyncio.StreamReader", self.process.stdout)

    @property
    def read(self) -> asyncio.StreamWriter:
        return cast("asyncio.StreamWriter", self.process.stdin)

    async def ended_well(self) -> None:
        """Waits for the end. Raises ProgramError."""
        if await self.process.wait() != 0:
            lines = (await self.said).decode(errors="replace").strip().splitlines()
            raise ProgramError(lines[-1] if lines else f"a program of PostgreSQL ended with {self.process.returncode}")


@asynccontextmanager
async def _running(argv: Sequence[str], place: Mapping[str, str], *, is_fed: bool) -> AsyncIterator[_Running]:
    reads, writes = (PIPE, DEVNULL) if is_fed else (DEVNULL, PIPE)
    try:
        process = await asyncio.create_subprocess_exec(*argv, stdin=reads, stdout=writes, stderr=PIPE, env=environment_of(place))
    except OSError as error:
        raise ProgramError(
            f"{argv[0]}: {error.strerror}; VLA_POSTGRES_PROGRAMS names the folder of PostgreSQL's programs"
        ) from None
    said = asyncio.create_task(_last_of(cast("asyncio.StreamReader", process.stderr)))
    try:
        yield _Running(process=process, said=said)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await said


async def _last_of(stream: asyncio.StreamReader) -> bytes:
    """The end of what it says: a program that repeats itself a million times fills no memory."""
    kept = b""
    while data := await stream.read(4096):
        kept = (kept + data)[-2000:]
    return kept
