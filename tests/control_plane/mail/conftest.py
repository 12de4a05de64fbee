"""A real SMTP server that a test can make refuse, and an outbox of the test's own."""

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import create_engine
from control_plane.logs import create_log
from control_plane.mail.delivery import Delivery, MailPace
from control_plane.mail.outbox import Mail, enqueue
from control_plane.mail.transport import Transport, smtp_transport
from control_plane.metrics import Metrics, create_metrics

PEPPER = b"a pepper that only these tests know"
SENDER = "vlaapi <robots@api.example.com>"
AT_ONCE = MailPace(lease_s=0.5, first_wait_s=0.0, longest_wait_s=0.0, attempts=3)


@dataclass
class Postman:
    """What the server does with what it gets: by default it keeps it."""

    letters: list[EmailMessage] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    was_tls: list[bool] = field(default_factory=list)
    on_recipient: Callable[[str], str] = lambda _: "250 OK"
    on_data: Callable[[int], str] = lambda _: "250 OK"

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: Any) -> str:  # noqa: N802 -- aiosmtpd's name
        answer = self.on_recipient(address)
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802 -- aiosmtpd's name
        answer = self.on_data(len(self.letters))
        if answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.letters.append(message_from_bytes(envelope.content, policy=default))
            self.was_tls.append(server.transport.get_extra_info("ssl_object") is not None)
        return answer

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: LoginPassword) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"pass:word", handled=False)


@asynccontextmanager
async def post_office(postman: Postman, **options: Any) -> AsyncIterator[str]:
    """A running server; gives `host:port`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(postman, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        controller.stop()


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An outbox of this test's own."""
    engine = create_engine(database_url, timeout_s=10)
    yield engine
    await engine.dispose()


@pytest.fixture
def metrics() -> Metrics:
    """Fresh series."""
    return create_metrics()


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[IO[bytes]]:
    """What the deliveries say, in tmp_path / "log"."""
    with (tmp_path / "log").open("ab", buffering=0) as file:
        yield file


@pytest.fixture
def deliver(engine: AsyncEngine, metrics: Metrics, log_file: IO[bytes]) -> Callable[..., Delivery]:
    """Builds a worker's sending part."""

    def build(transport: Transport | str, pace: MailPace = AT_ONCE) -> Delivery:
        if isinstance(transport, str):
            transport = smtp_transport(transport, sender=SENDER)
        log = create_log("debug", cast(BinaryIO, log_file))
        return Delivery(engine=engine, transport=transport, sender=SENDER, pepper=PEPPER, metrics=metrics, log=log, pace=pace)

    return build


async def put(engine: AsyncEngine, **changes: Any) -> Any:
    """A mail in the outbox."""
    values: dict[str, Any] = {"to": "ops@acme.example", "subject": "Hello", "text": "Good day.", "dedupe_key": "one"}
    async with engine.begin() as connection:
        return await enqueue(connection, Mail(**{**values, **changes}))


async def rows(engine: AsyncEngine) -> list[Any]:
    """The outbox."""
    async with engine.connect() as connection:
        return list((await connection.execute(text("SELECT * FROM mails ORDER BY id"))).all())


def tls_context(certificate: Path) -> ssl.SSLContext:
    """Of a server with that certificate and its key in one file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
