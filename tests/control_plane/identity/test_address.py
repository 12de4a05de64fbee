"""A caller's address: believed from our own nginx and from trusted proxies, from nobody else."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from control_plane.identity.address import calling_address, is_within, networks, note_call

PROXIES = networks(["10.0.0.0/8", "fd00::/8"])
UNIX_SOCKET = None


async def seen(peer: str | None, *forwarded_for: str, trusted: bool = True) -> str | None:
    """The address of a call with that peer and those X-Forwarded-For headers."""
    headers = [(b"x-real-ip", b"192.0.2.66"), *((b"x-forwarded-for", text.encode()) for text in forwarded_for)]
    scope: Mapping[str, Any] = {"client": None if peer is None else (peer, 1), "headers": headers}

    async def call() -> str | None:
        note_call(scope)
        address = calling_address(PROXIES if trusted else ())
        return None if address is None else str(address)

    return await asyncio.create_task(call())


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        ("203.0.113.9", ("198.51.100.1",), "203.0.113.9"),  # nobody we know says so
        ("10.0.0.2", ("198.51.100.1",), "198.51.100.1"),
        ("10.0.0.2", ("127.0.0.1, 198.51.100.1",), "198.51.100.1"),  # what the caller wrote himself stands to the left
        ("10.0.0.2", ("127.0.0.1", "198.51.100.1, 10.0.0.3"), "198.51.100.1"),
        ("10.0.0.2", ("10.9.9.9, 10.0.0.3",), "10.9.9.9"),  # everybody is ours: the farthest of us
        ("10.0.0.2", (), "10.0.0.2"),
        ("10.0.0.2", ("198.51.100.1, rubbish",), None),
        ("fd00::1", ("2001:db8::7",), "2001:db8::7"),
        ("::ffff:203.0.113.9", (), "203.0.113.9"),
        ("fe80::1%eth0", (), "fe80::1"),
        (UNIX_SOCKET, ("198.51.100.1",), "198.51.100.1"),
        (UNIX_SOCKET, ("::ffff:198.51.100.1",), "198.51.100.1"),
        (UNIX_SOCKET, (), None),
        (UNIX_SOCKET, ("unknown",), None),
    ],
)
async def test_the_address_is_the_last_that_no_trusted_machine_wrote(
    peer: str | None, forwarded_for: tuple[str, ...], address: str | None
) -> None:
    assert await seen(peer, *forwarded_for) == address


async def test_without_trusted_proxies_no_header_is_believed_over_tcp() -> None:
    assert await seen("10.0.0.2", "198.51.100.1", trusted=False) == "10.0.0.2"
    assert await seen("127.0.0.1", "198.51.100.1", trusted=False) == "127.0.0.1"


async def test_what_was_never_noted_comes_from_nowhere() -> None:
    assert await asyncio.create_task(_address()) is None


async def _address() -> object:
    return calling_address(())


def test_an_unknown_address_is_in_no_network() -> None:
    assert not is_within(networks(["0.0.0.0/0", "::/0"]), None)
