"""A TCP proxy that can lose what passes, in either direction: how a time-out looks whose outcome nobody knows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """While `drops_requests`, nothing reaches the server; while `drops_replies`, it works and nobody hears of it."""

    def __init__(self, url: str) -> None:
        self.drops_requests = False
        self.drops_replies = False
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """The server's address by way of the proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return urlunsplit(self._target._replace(netloc=f":{self._target.password}@127.0.0.1:{port}"))

    async def start(self) -> None:
        """Begins to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    def say_the_last(self) -> None:
        """Ends its side of the clients' connections, and reads nothing more of theirs."""
        for writer in self._clients:
            writer.transport.pause_reading()  # type: ignore[attr-defined] # it is a socket's, which reads too
            writer.write_eof()

    async def close(self) -> None:
        """Ends every connection."""
        assert self._server is not None
        self._server.close()
        for writer in self._streams:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._streams |= {to_client, to_server}
        self._clients.add(to_client)
        await asyncio.gather(
            self._pass(from_client, to_server, "drops_requests"),
            self._pass(from_server, to_client, "drops_replies"),
        )

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, drops: str) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if not getattr(self, drops):
                    writer.write(data)
        writer.close()


@asynccontextmanager
async def proxy_to(url: str) -> AsyncIterator[Proxy]:
    """A running proxy."""
    proxy = Proxy(url)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
