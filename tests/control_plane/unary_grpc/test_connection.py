"""What a peer may do by the protocol's text, also what Triton seldom does: windows, resets, GOAWAY, padding, broken frames."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from control_plane.unary_grpc.channel import Channel
from control_plane.unary_grpc.connection import CallFailedError, Status
from control_plane.unary_grpc.frames import CONNECTION, Flag, Kind, Reset, Setting, frame, reset, settings, window_update
from tests.control_plane.unary_grpc.peer import END, PATH, Peer, block, channel_to, echo, grpc_message

OK_HEAD = {":status": "200", "content-type": "application/grpc"}


async def failure_of(asking: Awaitable[bytes]) -> CallFailedError:
    with pytest.raises(CallFailedError) as caught:
        await asking
    return caught.value


async def failure_by(behave: Callable[[Peer], Awaitable[None]]) -> CallFailedError:
    async with channel_to(behave) as channel:
        return await failure_of(channel.ask([b"x"], 5.0))


def after_a_request(*parts: Callable[[int], bytes]) -> Callable[[Peer], Awaitable[None]]:
    """A server that says just this after each request."""

    async def behave(peer: Peer) -> None:
        while True:
            stream, _, _ = await peer.asked()
            peer.send(*(part(stream) for part in parts))

    return behave


async def test_a_call_is_a_post_with_the_methods_path_and_the_time_that_is_left() -> None:
    heads: list[dict[str, str]] = []

    async def behave(peer: Peer) -> None:
        stream, head, message = await peer.asked()
        heads.append(head)
        peer.answer(stream, message)

    async with channel_to(behave) as channel:
        assert await channel.ask([b"one ", b"message"], 1.5) == b"one message"
    (head,) = heads
    assert head.pop(":authority").startswith("127.0.0.1:")
    assert 1_000_000 < int(head.pop("grpc-timeout").removesuffix("u")) <= 1_500_000
    assert head == {
        ":method": "POST",
        ":scheme": "http",
        ":path": PATH,
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "vlaapi",
    }


async def test_a_server_that_remembers_no_headers_can_read_every_request() -> None:
    async def behave(peer: Peer) -> None:
        peer.remember_no_headers()
        await echo(peer)

    async with channel_to(behave) as channel:
        assert [await channel.ask([word], 5.0) for word in (b"a", b"b")] == [b"a", b"b"]


async def test_calls_share_one_connection_and_are_answered_in_any_order() -> None:
    connections = 0

    async def behave(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        asked = [await peer.asked() for _ in range(3)]
        for stream, _, message in reversed(asked):
            peer.answer(stream, message)
        await peer.next(Kind.GOAWAY)

    async with channel_to(behave) as channel:
        assert await asyncio.gather(*(channel.ask([word], 5.0) for word in (b"a", b"b", b"c"))) == [b"a", b"b", b"c"]
    assert connections == 1


async def test_a_message_waits_for_the_windows_and_goes_in_frames_that_the_server_takes() -> None:
    sizes: list[int] = []
    message = bytes(range(256)) * 800  # 200 kB, over the connection's first window of 64

    async def behave(peer: Peer) -> None:
        head = await peer.next(Kind.HEADERS)
        body = b""
        while len(body) < len(message) + 5:
            one = await peer.next(Kind.DATA)
            sizes.append(len(one.payload))
            body += one.payload
            peer.send(window_update(CONNECTION, len(one.payload)), window_update(head.stream, len(one.payload)))
        peer.answer(head.stream, body[5:])

    async with channel_to(behave, INITIAL_WINDOW_SIZE=10_000, MAX_FRAME_SIZE=16_384) as channel:
        assert await channel.ask([message], 5.0) == message
    assert max(sizes) <= 10_000


async def test_a_window_that_grows_by_settings_frees_what_waits() -> None:
    async def behave(peer: Peer) -> None:
        head = await peer.next(Kind.HEADERS)
        first = await peer.next(Kind.DATA)
        assert len(first.payload) == 8
        peer.send(frame(Kind.SETTINGS, 0, CONNECTION, (4).to_bytes(2, "big") + (1000).to_bytes(4, "big")))
        rest = await peer.next(Kind.DATA)
        peer.answer(head.stream, (first.payload + rest.payload)[5:])

    async with channel_to(behave, INITIAL_WINDOW_SIZE=8) as channel:
        assert await channel.ask([b"twenty bytes of text"], 5.0) == b"twenty bytes of text"


async def test_no_more_calls_at_once_than_the_server_allows() -> None:
    most = 0

    async def behave(peer: Peer) -> None:
        nonlocal most
        open_streams: list[tuple[int, bytes]] = []
        while True:
            try:
                async with asyncio.timeout(0.05):
                    stream, _, message = await peer.asked()
                open_streams.append((stream, message))
                most = max(most, len(open_streams))
            except TimeoutError:
                for stream, message in open_streams:
                    peer.answer(stream, message)
                open_streams.clear()

    async with channel_to(behave, MAX_CONCURRENT_STREAMS=2) as channel:
        words = [bytes([65 + number]) for number in range(5)]
        assert await asyncio.gather(*(channel.ask([word], 5.0) for word in words)) == words
    assert most == 2


async def test_who_waits_for_a_place_in_vain_was_never_sent() -> None:
    async def hang(peer: Peer) -> None:
        await peer.next(Kind.GOAWAY)

    async with channel_to(hang, MAX_CONCURRENT_STREAMS=1) as channel:
        first = asyncio.create_task(channel.ask([b"a"], 5.0))
        await asyncio.sleep(0.05)
        error = await failure_of(channel.ask([b"b"], 0.05))
        assert (error.status, error.was_sent) == (Status.DEADLINE_EXCEEDED, False)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_an_answer_may_come_padded_in_pieces_and_with_its_head_continued() -> None:
    async def behave(peer: Peer) -> None:
        stream, _, _ = await peer.asked()
        head, message = block(OK_HEAD), grpc_message(b"in pieces")
        pieces = [
            frame(Kind.HEADERS, 0, stream, head[:5]),
            frame(Kind.CONTINUATION, Flag.END_HEADERS, stream, head[5:]),
            frame(Kind.DATA, Flag.PADDED, stream, b"\x03" + message[:7] + b"\0\0\0"),
            frame(0xEE, 0, stream, b"a kind of frame that nobody knows is passed over"),
            frame(Kind.DATA, 0, stream, message[7:]),
            frame(Kind.HEADERS, END | Flag.PRIORITY, stream, bytes(5) + block({"grpc-status": "0"})),
        ]
        for byte in b"".join(pieces):
            peer.send(bytes([byte]))
            await asyncio.sleep(0)
        await peer.next(Kind.GOAWAY)

    async with channel_to(behave) as channel:
        assert await channel.ask([b"x"], 5.0) == b"in pieces"


async def test_a_ping_is_answered() -> None:
    echoed: list[bytes] = []

    async def behave(peer: Peer) -> None:
        peer.send(frame(Kind.PING, 0, CONNECTION, b"12345678"))
        stream, _, message = await peer.asked()
        peer.answer(stream, message)

    async def pinging(peer: Peer) -> None:
        peer.send(frame(Kind.PING, 0, CONNECTION, b"12345678"))
        echoed.append((await peer.next(Kind.PING)).payload)
        await behave(peer)

    async with channel_to(pinging) as channel:
        assert await channel.ask([b"x"], 5.0) == b"x"
    assert echoed == [b"12345678"]


@pytest.mark.parametrize(
    ("head", "status", "details"),
    [
        ({":status": "200", "grpc-status": "14", "grpc-message": "queue is full %C3%A9"}, Status.UNAVAILABLE, "queue is full é"),
        ({":status": "200", "grpc-status": "5"}, Status.NOT_FOUND, ""),
        ({":status": "200", "grpc-status": "16"}, Status.UNKNOWN, ""),
        ({":status": "503"}, Status.UNAVAILABLE, "HTTP 503 instead of gRPC"),
        ({":status": "404"}, Status.UNKNOWN, "HTTP 404 instead of gRPC"),
        ({":status": "200"}, Status.INTERNAL, "an answer without a status"),
    ],
)
async def test_what_went_wrong_is_said(head: dict[str, str], status: Status, details: str) -> None:
    error = await failure_by(after_a_request(lambda stream: frame(Kind.HEADERS, END, stream, block(head))))
    assert (error.status, error.details, error.was_sent) == (status, details, True)


@pytest.mark.parametrize("body", [b"", b"\0\0\0\0", b"\0\0\0\0\x05four", b"\0\0\0\0\x03four", b"\x01\0\0\0\x04four"], ids=str)
async def test_what_is_not_one_plain_message_is_an_error(body: bytes) -> None:
    error = await failure_by(
        after_a_request(
            lambda stream: frame(Kind.HEADERS, Flag.END_HEADERS, stream, block(OK_HEAD)),
            lambda stream: frame(Kind.DATA, 0, stream, body),
            lambda stream: frame(Kind.HEADERS, END, stream, block({"grpc-status": "0"})),
        )
    )
    assert (error.status, error.was_sent) == (Status.INTERNAL, True)


@pytest.mark.parametrize(
    ("code", "status", "was_sent"),
    [
        (Reset.REFUSED_STREAM, Status.UNAVAILABLE, False),
        (Reset.CANCEL, Status.CANCELLED, True),
        (Reset.PROTOCOL_ERROR, Status.INTERNAL, True),
        (11, Status.INTERNAL, True),
    ],
)
async def test_a_reset_says_whether_the_server_had_seen_it(code: int, status: Status, was_sent: bool) -> None:
    error = await failure_by(after_a_request(lambda stream: frame(Kind.RST_STREAM, 0, stream, code.to_bytes(4, "big"))))
    assert (error.status, error.was_sent) == (status, was_sent)


async def test_what_a_leaving_server_did_not_take_is_asked_of_it_anew() -> None:
    connections = 0

    async def behave(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await echo(peer)
        first, second = [await peer.asked() for _ in range(2)]
        peer.send(frame(Kind.GOAWAY, 0, CONNECTION, first[0].to_bytes(4, "big") + bytes(4)))
        await asyncio.sleep(0.05)
        peer.answer(first[0], first[2])
        assert second[0] > first[0]
        await peer.next(Kind.GOAWAY)

    async with channel_to(behave) as channel:
        assert await asyncio.gather(*(channel.ask([word], 5.0) for word in (b"taken", b"not"))) == [b"taken", b"not"]
        assert await channel.ask([b"again"], 5.0) == b"again"
    assert connections == 2


async def test_a_server_that_allows_more_later_wakes_who_waits() -> None:
    async def behave(peer: Peer) -> None:
        await asyncio.sleep(0.05)
        peer.send(settings({Setting.MAX_CONCURRENT_STREAMS: 5}))
        await echo(peer)

    async with channel_to(behave, MAX_CONCURRENT_STREAMS=0) as channel:
        words = [b"a", b"b", b"c"]
        assert await asyncio.gather(*(channel.ask([word], 5.0) for word in words)) == words


async def test_a_connection_that_breaks_may_have_brought_the_call() -> None:
    async def behave(peer: Peer) -> None:
        await peer.asked()

    error = await failure_by(behave)
    assert (error.status, error.was_sent) == (Status.UNAVAILABLE, True)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_no_answer_is_waited_for_from_a_server_that_has_said_its_last(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """It takes no more bytes either: what is still to be sent must not keep the connection."""
    connections = 0
    is_over = asyncio.Event()

    async def behave(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await echo(peer)
        await peer.next(Kind.HEADERS)
        peer.stop_reading()
        peer.send(window_update(CONNECTION, 2**30), window_update(1, 2**30))
        peer.say_the_last()
        await is_over.wait()

    async def ask() -> None:
        async with channel_to(behave) as channel:
            error = await failure_of(channel.ask([bytes(20_000_000)], 4.0))  # the kernel gives up after 5
            assert (error.status, error.was_sent) == (Status.UNAVAILABLE, True)
            assert await channel.ask([b"x"], 10.0) == b"x"
            is_over.set()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(ask())


async def test_a_message_of_which_not_all_had_left_was_not_seen_and_is_asked_anew() -> None:
    connections = 0

    async def behave(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            peer.send(settings({Setting.INITIAL_WINDOW_SIZE: 10**6}))
            await echo(peer)
        await peer.next(Kind.DATA)

    async with channel_to(behave, INITIAL_WINDOW_SIZE=8) as channel:
        assert await channel.ask([b"twenty bytes of text"], 5.0) == b"twenty bytes of text"


async def test_a_late_call_is_given_up_and_told_so() -> None:
    codes: list[bytes] = []

    async def behave(peer: Peer) -> None:
        await peer.asked()
        codes.append((await peer.next(Kind.RST_STREAM)).payload)
        await echo(peer)

    async with channel_to(behave) as channel:
        error = await failure_of(channel.ask([b"x"], 0.05))
        assert (error.status, error.was_sent) == (Status.DEADLINE_EXCEEDED, True)
        assert await channel.ask([b"y"], 5.0) == b"y"
    assert codes == [Reset.CANCEL.to_bytes(4, "big")]


async def test_an_answer_to_a_call_that_was_given_up_harms_nobody() -> None:
    async def behave(peer: Peer) -> None:
        stream, _, message = await peer.asked()
        await peer.next(Kind.RST_STREAM)
        peer.answer(stream, message)
        await echo(peer)

    async with channel_to(behave) as channel:
        task = asyncio.create_task(channel.ask([b"x"], 5.0))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await channel.ask([b"y"], 5.0) == b"y"


async def test_an_early_answer_ends_a_request_that_is_still_being_sent() -> None:
    async def behave(peer: Peer) -> None:
        head = await peer.next(Kind.HEADERS)
        peer.head(head.stream, {":status": "200", "grpc-status": "3", "grpc-message": "too big"}, END)
        await peer.next(Kind.RST_STREAM)
        peer.send(window_update(head.stream, 10**6), window_update(CONNECTION, 10**6))
        await echo(peer)

    async with channel_to(behave) as channel:
        error = await failure_of(channel.ask([bytes(100_000)], 5.0))
        assert (error.status, error.details) == (Status.INVALID_ARGUMENT, "too big")
        assert await channel.ask([b"y"], 5.0) == b"y"


@pytest.mark.parametrize(
    "broken",
    [
        (20_000).to_bytes(3, "big") + bytes([Kind.DATA, 0]) + (1).to_bytes(4, "big"),
        frame(Kind.SETTINGS, 0, CONNECTION, b"1234567"),
        settings({Setting.MAX_FRAME_SIZE: 0}),
        settings({Setting.MAX_FRAME_SIZE: 2**24}),
        settings({Setting.INITIAL_WINDOW_SIZE: 2**31}),
        frame(Kind.WINDOW_UPDATE, 0, CONNECTION, b"1"),
        frame(Kind.CONTINUATION, Flag.END_HEADERS, 1, b""),
        frame(Kind.HEADERS, 0, 1, b"\x88") + frame(Kind.DATA, 0, 1, b""),
        frame(Kind.HEADERS, Flag.END_HEADERS, 1, b"\xff\xff\xff\xff\xff"),
        frame(Kind.DATA, Flag.PADDED, 1, b"\x09ab"),
        frame(Kind.PUSH_PROMISE, Flag.END_HEADERS, 1, bytes(4)),
        frame(Kind.HEADERS, 0, 1, b"") + frame(Kind.CONTINUATION, 0, 1, bytes(16_000)) * 5,
        frame(Kind.HEADERS, 0, 1, b"") + frame(Kind.CONTINUATION, 0, 1, b""),
    ],
    ids=[
        "too long",
        "settings",
        "no frame",
        "large frame",
        "large window",
        "window",
        "continuation",
        "interrupted",
        "block",
        "padding",
        "push",
        "endless",
        "empty",
    ],
)
async def test_a_server_that_breaks_the_protocol_is_left(broken: bytes) -> None:
    left = asyncio.Event()

    async def behave(peer: Peer) -> None:
        await peer.asked()
        peer.send(broken)
        await peer.next(Kind.GOAWAY)
        left.set()

    async with channel_to(behave) as channel:
        error = await failure_of(channel.ask([b"x"], 5.0))
        assert (error.status, error.was_sent) == (Status.UNAVAILABLE, True)
        assert "broke HTTP/2" in error.details
        async with asyncio.timeout(5):
            await left.wait()


async def test_a_reset_for_nobody_and_a_window_for_nobody_are_passed_over() -> None:
    async def behave(peer: Peer) -> None:
        peer.send(reset(77, Reset.CANCEL), window_update(77, 1000), frame(Kind.DATA, 0, 77, b"late"))
        await echo(peer)

    async with channel_to(behave) as channel:
        assert await channel.ask([b"x"], 5.0) == b"x"


async def test_closing_fails_what_is_in_flight() -> None:
    async def hang(peer: Peer) -> None:
        await peer.next(Kind.GOAWAY)

    async with channel_to(hang) as channel:
        asking = asyncio.create_task(_ask(channel))
        await asyncio.sleep(0.05)
        await channel.close()
        assert (await failure_of(asking)).status is Status.UNAVAILABLE


async def _ask(channel: Channel) -> bytes:
    return await channel.ask([b"x"], 5.0)
