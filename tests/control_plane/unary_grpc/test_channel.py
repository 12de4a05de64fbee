"""Reaching a server: addresses, one try for all who wait, and servers that accept and say nothing."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import pytest

from control_plane.unary_grpc.channel import AddressError, Channel, host_and_port
from control_plane.unary_grpc.connection import CallFailedError, Status
from control_plane.unary_grpc.frames import CONNECTION, Kind, frame
from tests.conftest import free_port
from tests.control_plane.eventually import eventually
from tests.control_plane.unary_grpc.peer import PATH, Peer, channel_to, echo, server_that


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("triton:8001", ("triton", 8001)),
        ("10.0.0.7:8001", ("10.0.0.7", 8001)),
        ("[::1]:8001", ("::1", 8001)),
    ],
)
def test_an_address_is_host_and_port(address: str, parts: tuple[str, int]) -> None:
    assert host_and_port(address) == parts


@pytest.mark.parametrize(
    "address", ["", "triton", "triton:", ":8001", "triton:http", "triton:70000", "http://t:1", "me@t:1", "t:1/x"]
)
def test_anything_else_is_refused(address: str) -> None:
    with pytest.raises(AddressError, match="is not host:port"):
        host_and_port(address)


@asynccontextmanager
async def server_that_says(words: bytes) -> AsyncIterator[tuple[Channel, list[object]]]:
    """A channel to something that accepts, says `words` and nothing more, and the connections it has seen."""
    seen: list[object] = []
    is_over = asyncio.Event()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer)
        writer.write(words)
        await is_over.wait()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    channel = Channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", PATH)
    try:
        yield channel, seen
    finally:
        await channel.close()
        is_over.set()
        server.close()
        await server.wait_closed()


async def test_all_who_wait_share_one_try() -> None:
    async with server_that_says(b"") as (channel, seen):
        outcomes = await asyncio.gather(*(channel.ask([b"x"], 5.0) for _ in range(5)), return_exceptions=True)
    assert len(seen) == 1
    assert [(type(error), getattr(error, "status", None), getattr(error, "was_sent", None)) for error in outcomes] == [
        (CallFailedError, Status.UNAVAILABLE, False)
    ] * 5


async def test_who_has_less_time_than_a_connection_takes_is_late() -> None:
    async with server_that_says(b"") as (channel, _):
        with pytest.raises(CallFailedError) as caught:
            await channel.ask([b"x"], 0.02)
    assert (caught.value.status, caught.value.was_sent) == (Status.DEADLINE_EXCEEDED, False)


async def test_a_server_that_speaks_something_else_has_seen_nothing() -> None:
    async with server_that_says(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n") as (channel, _):
        with pytest.raises(CallFailedError) as caught:
            await channel.ask([b"x"], 5.0)
    assert (caught.value.status, caught.value.was_sent) == (Status.UNAVAILABLE, False)


async def test_nobody_listening_is_said_at_once() -> None:
    channel = Channel(f"127.0.0.1:{free_port().number}", PATH)
    with pytest.raises(CallFailedError, match="no connection") as caught:
        await channel.ask([b"x"], 5.0)
    assert not caught.value.was_sent


@asynccontextmanager
async def host_of(monkeypatch: pytest.MonkeyPatch, addresses: Sequence[str], port: int) -> AsyncIterator[Channel]:
    """A channel to a host whose name has these addresses."""

    async def resolve(*_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    channel = Channel(f"triton:{port}", PATH)
    try:
        yield channel
    finally:
        await channel.close()


async def test_an_address_that_is_dead_leaves_the_living_one_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One refuses, one accepts and says nothing, one answers."""
    silent_have_gone = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal silent_have_gone
        await reader.read()
        silent_have_gone += 1
        writer.close()

    async def all_have_gone() -> bool:
        return silent_have_gone == 2

    async with server_that(echo) as port:
        servers = [await asyncio.start_server(silent, host, port) for host in ("127.0.0.2", "127.0.0.5")]
        addresses = ["127.0.0.3", "127.0.0.2", "127.0.0.5", "127.0.0.1", "127.0.0.4"]
        async with host_of(monkeypatch, addresses, port) as channel:
            assert await channel.ask([b"x"], 5.0) == b"x"
            await eventually(all_have_gone)
        for server in servers:
            server.close()
            await server.wait_closed()


async def test_the_last_of_several_addresses_says_why_there_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with host_of(monkeypatch, ["127.0.0.1", "127.0.0.2"], free_port().number) as channel:
        with pytest.raises(CallFailedError, match="no connection") as caught:
            await channel.ask([b"x"], 5.0)
    assert (caught.value.status, caught.value.was_sent) == (Status.UNAVAILABLE, False)


async def test_one_who_gives_up_does_not_take_the_connection_from_the_others() -> None:
    async with channel_to(echo) as channel:
        first = asyncio.create_task(channel.ask([b"a"], 5.0))
        await asyncio.sleep(0)
        second = asyncio.create_task(channel.ask([b"b"], 5.0))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == b"b"


async def test_many_calls_at_once_on_a_fresh_connection_to_grpcs_own_server() -> None:
    async def echo(request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return request

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(echo, request_deserializer=bytes, response_serializer=bytes)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("echo.Echo", {"Say": method})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    for _ in range(20):
        channel = Channel(f"127.0.0.1:{port}", PATH)
        words = [b"%d" % number * 1000 for number in range(60)]
        assert await asyncio.gather(*(channel.ask([word], 30.0) for word in words)) == words
        await channel.close()
    await server.stop(None)


async def failures_at_closing(channel: Channel, seen: list[object]) -> list[object]:
    """What becomes of two calls that wait for a connection while the channel is closed, and of one that comes later."""

    async def is_connecting() -> bool:
        return bool(seen)

    asking = [asyncio.create_task(channel.ask([b"x"], 5.0)) for _ in range(2)]
    await eventually(is_connecting)
    await channel.close()
    return [
        *await asyncio.gather(*asking, return_exceptions=True),
        *await asyncio.gather(channel.ask([b"y"], 5.0), return_exceptions=True),
    ]


async def test_closing_tells_who_waits_for_a_connection_and_who_comes_later() -> None:
    async with server_that_says(b"") as (channel, seen):
        outcomes = await failures_at_closing(channel, seen)
    assert [(type(error), getattr(error, "status", None), getattr(error, "was_sent", None)) for error in outcomes] == [
        (CallFailedError, Status.UNAVAILABLE, False)
    ] * 3
    assert len(seen) == 1


async def test_closed_before_the_try_has_begun() -> None:
    async with server_that_says(b"") as (channel, seen):
        asking = asyncio.create_task(channel.ask([b"x"], 5.0))
        await asyncio.sleep(0)
        await channel.close()
        with pytest.raises(CallFailedError, match="closed"):
            await asking
    assert seen == []


async def test_who_is_cancelled_at_closing_is_cancelled() -> None:
    async with server_that_says(b"") as (channel, _):
        asking = asyncio.create_task(channel.ask([b"x"], 5.0))
        await asyncio.sleep(0)
        asking.cancel()
        await channel.close()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_closing_ends_also_a_connection_that_the_server_has_left_and_asks_nothing_again() -> None:
    connections = 0
    has_gone_away = asyncio.Event()

    async def behave(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await peer.next(Kind.GOAWAY)
        stream, _, _ = await peer.asked()
        peer.send(frame(Kind.GOAWAY, 0, CONNECTION, stream.to_bytes(4, "big") + bytes(4)))
        has_gone_away.set()
        await peer.next(Kind.GOAWAY)

    async with channel_to(behave, MAX_CONCURRENT_STREAMS=1) as channel:
        first = asyncio.create_task(channel.ask([b"a"], 60.0))
        await has_gone_away.wait()
        second = asyncio.create_task(channel.ask([b"b"], 60.0))
        waiting = asyncio.create_task(channel.ask([b"c"], 60.0))

        async def are_two() -> bool:
            return connections == 2

        await eventually(are_two)
        await asyncio.sleep(0.05)  # now `second` is in flight and the other waits for its place
        await channel.close()
        outcomes = await asyncio.gather(first, second, waiting, return_exceptions=True)
    assert [(type(error), getattr(error, "was_sent", None)) for error in outcomes] == [
        (CallFailedError, True),
        (CallFailedError, True),
        (CallFailedError, False),
    ]
    assert connections == 2
