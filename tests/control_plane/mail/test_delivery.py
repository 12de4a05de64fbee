"""Mails on their way: a real SMTP server takes, refuses, postpones and vanishes; workers share, die and repeat."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.mail.delivery import Delivery, MailPace
from control_plane.mail.outbox import SECRET, Attachment, Mail, enqueue, enqueue_with_secret
from control_plane.mail.transport import FolderTransport, SmtpTransport, smtp_transport
from control_plane.metrics import Metrics
from control_plane.settings import SettingsError
from tests.control_plane.eventually import eventually
from tests.control_plane.mail.conftest import AT_ONCE, PEPPER, SENDER, Postman, post_office, put, rows, tls_context

Deliver = Callable[..., Delivery]
KEY = "vla_live_0123456789abcdefghijklmnopqrstuvw"


def outcome(metrics: Metrics, name: str) -> float | None:
    """How often an attempt ended so."""
    return metrics.registry.get_sample_value("vla_mails_total", {"outcome": name})


async def test_a_mail_arrives_as_it_was_written(engine: AsyncEngine, deliver: Deliver, metrics: Metrics) -> None:
    postman, pdf = Postman(), Attachment(filename="invoice.pdf", media_type="application/pdf", content=b"%PDF\0")
    async with post_office(postman) as address:
        mail_id = await put(engine, subject="Grüße, 你好", text="ä\n.\nend", html="<p>ä</p>", attachments=(pdf,))
        await deliver(f"smtp+plain://{address}").step()
    (letter,) = postman.letters
    assert (letter["subject"], letter["to"], letter["from"]) == ("Grüße, 你好", "ops@acme.example", SENDER)
    assert letter["message-id"] == f"<{mail_id.hex}@api.example.com>"
    text, html = letter.get_body(("plain",)), letter.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().splitlines() == ["ä", ".", "end"]
    assert html.get_content().strip() == "<p>ä</p>"
    (attachment,) = letter.iter_attachments()
    assert (attachment.get_filename(), attachment.get_content()) == ("invoice.pdf", b"%PDF\0")
    (row,) = await rows(engine)
    assert (row.status, row.sent_by, row.attempts, row.last_error) == ("sent", "smtp", 1, None)
    assert outcome(metrics, "smtp") == 1


async def test_the_same_dedupe_key_is_one_mail_and_a_rolled_back_one_is_none(engine: AsyncEngine, deliver: Deliver) -> None:
    assert await put(engine) is not None
    assert await put(engine) is None
    async with engine.connect() as connection:
        await enqueue(connection, Mail(to="a@b.example", subject="x", text="x", dedupe_key="two"))
        await connection.rollback()
    assert len(await rows(engine)) == 1


async def test_a_secret_is_in_the_letter_and_nowhere_else(engine: AsyncEngine, deliver: Deliver, tmp_path: Path) -> None:
    postman = Postman()
    mail = Mail(to="a@b.example", subject="Key", text=f"Your key: {SECRET}", html=f"<b>{SECRET}</b>", dedupe_key="k")
    async with engine.begin() as connection:
        await enqueue_with_secret(connection, mail, KEY, pepper=PEPPER)
    assert KEY[12:] not in str(before := await rows(engine))
    assert before[0].sealed_secret is not None
    async with post_office(postman) as address:
        await deliver(f"smtp+plain://{address}").step()
    body = postman.letters[0].get_body(("plain",))
    assert body is not None
    assert body.get_content().strip() == f"Your key: {KEY}"
    (after,) = await rows(engine)
    assert (after.status, after.sealed_secret) == ("sent", None)
    assert KEY[12:] not in (tmp_path / "log").read_text()


async def test_a_secret_sealed_under_another_pepper_is_dead_and_told(engine: AsyncEngine, deliver: Deliver) -> None:
    async with engine.begin() as connection:
        mail = Mail(to="a@b.example", subject="Key", text=SECRET, dedupe_key="k")
        await enqueue_with_secret(connection, mail, KEY, pepper=b"another pepper")
    postman = Postman()
    async with post_office(postman) as address:
        await deliver(f"smtp+plain://{address}").step()
    assert (postman.letters, (await rows(engine))[0].status) == ([], "dead")


async def test_a_recipient_refused_for_good_is_dead_and_told_and_others_go_on(
    engine: AsyncEngine, deliver: Deliver, metrics: Metrics, tmp_path: Path
) -> None:
    postman = Postman(on_recipient=lambda address: "550 No such user" if "gone" in address else "250 OK")
    await put(engine, to="gone@acme.example", dedupe_key="a")
    await put(engine, dedupe_key="b")
    async with post_office(postman) as address:
        await deliver(f"smtp+plain://{address}").step()
    dead, sent = await rows(engine)
    assert (dead.status, dead.last_error, sent.status) == ("dead", "550 No such user", "sent")
    assert outcome(metrics, "dead") == 1
    log = (tmp_path / "log").read_text()
    assert "mail is dead" in log
    assert "gone@acme" not in log


async def test_greylisting_is_tried_again_and_gets_through_with_the_same_id(engine: AsyncEngine, deliver: Deliver) -> None:
    answers = iter(["451 Come back later", "451 Come back later", "250 OK"])
    postman = Postman(on_recipient=lambda _: next(answers))
    mail_id = await put(engine)
    async with post_office(postman) as address:
        await deliver(f"smtp+plain://{address}").step()
    (row,) = await rows(engine)
    assert (row.status, row.attempts) == ("sent", 3)
    assert postman.letters[0]["message-id"] == f"<{mail_id.hex}@api.example.com>"


async def test_a_mail_that_is_postponed_for_too_long_is_dead(engine: AsyncEngine, deliver: Deliver, metrics: Metrics) -> None:
    await put(engine)
    async with post_office(Postman(on_data=lambda _: "452 Full")) as address:
        await deliver(f"smtp+plain://{address}").step()
    (row,) = await rows(engine)
    assert (row.status, row.attempts, row.last_error) == ("dead", 3, "452 Full")
    assert (outcome(metrics, "retried"), outcome(metrics, "dead")) == (2, 1)


async def test_while_the_server_is_away_mails_wait_and_then_all_arrive(engine: AsyncEngine, deliver: Deliver) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{probe.getsockname()[1]}"
    for name in "abc":
        await put(engine, dedupe_key=name)
    await deliver(f"smtp+plain://{nobody}").step()
    assert sorted((row.status, row.attempts) for row in await rows(engine)) == [("waiting", 0), ("waiting", 0), ("waiting", 1)]
    postman = Postman()
    async with post_office(postman) as address:
        await deliver(f"smtp+plain://{address}").step()
    assert len(postman.letters) == 3


async def test_a_wrong_password_is_the_operators_fault_and_no_mail_dies(engine: AsyncEngine, deliver: Deliver) -> None:
    postman = Postman()
    await put(engine)
    async with post_office(postman, authenticator=postman.authenticate, auth_require_tls=False) as address:
        await deliver(f"smtp+plain://user:wrong@{address}").step()
        (row,) = await rows(engine)
        assert (row.status, row.attempts) == ("waiting", 1)
        await deliver(f"smtp+plain://user%40x:pass%3Aword@{address}").step()
    assert postman.logins[-1] == (b"user@x", b"pass:word")
    assert (await rows(engine))[0].status == "sent"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of localhost, signed by itself; the key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.mark.parametrize("scheme", ["smtps", "smtp"])
async def test_tls_from_the_first_byte_or_by_starttls(
    engine: AsyncEngine, deliver: Deliver, certificate: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    postman, context = Postman(), tls_context(certificate)
    options: dict[str, Any] = (
        {"ssl_context": context} if scheme == "smtps" else {"tls_context": context, "require_starttls": True}
    )
    await put(engine)
    async with post_office(postman, **options) as address:
        url = f"{scheme}://localhost:{address.partition(':')[2]}"
        await deliver(url).step()  # nobody vouches for this certificate, so nothing is sent
        assert (postman.letters, (await rows(engine))[0].status) == ([], "waiting")
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        await deliver(url).step()
    assert (len(postman.letters), postman.was_tls) == (1, [True])


async def test_without_tls_on_the_other_side_no_password_and_no_mail_is_given_away(engine: AsyncEngine, deliver: Deliver) -> None:
    postman = Postman()
    await put(engine)
    async with post_office(postman) as address:
        await deliver(f"smtp://user:secret@{address}").step()
    assert (postman.letters, postman.logins, (await rows(engine))[0].status) == ([], [], "waiting")


async def test_several_workers_share_and_send_each_mail_once(engine: AsyncEngine, deliver: Deliver) -> None:
    postman = Postman()
    for number in range(12):
        await put(engine, dedupe_key=str(number))
    async with post_office(postman) as address:
        workers = [deliver(f"smtp+plain://{address}", replace(AT_ONCE, lease_s=60.0)) for _ in range(3)]
        await asyncio.gather(*(worker.step() for worker in workers))
    ids = [letter["message-id"] for letter in postman.letters]
    assert (len(ids), len(set(ids))) == (12, 12)


WORKER = """
import asyncio, sys
from control_plane.db import create_engine
from control_plane.logs import create_log
from control_plane.mail.delivery import Delivery, MailPace
from control_plane.mail.transport import smtp_transport
from control_plane.metrics import create_metrics
database, smtp, sender = sys.argv[1:]
asyncio.run(Delivery(engine=create_engine(database), transport=smtp_transport(smtp, sender=sender), sender=sender,
    pepper=b"p", metrics=create_metrics(), log=create_log("info"), pace=MailPace(lease_s=1.0)).step())
"""


async def test_a_worker_killed_in_the_middle_loses_nothing(engine: AsyncEngine, deliver: Deliver, database_url: str) -> None:
    gate, postman = asyncio.Event(), Postman()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A server that says hello and then nothing more."""
        writer.write(b"220 wait\r\n")
        await reader.readline()
        gate.set()
        await reader.read()
        writer.close()

    mail_id = await put(engine)
    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    argv = (sys.executable, "-c", WORKER, database_url, f"smtp+plain://127.0.0.1:{port}", SENDER)
    process = await asyncio.create_subprocess_exec(*argv)
    async with asyncio.timeout(60):
        await gate.wait()
    process.kill()
    await process.wait()
    server.close()
    assert (await rows(engine))[0].status == "waiting"
    async with post_office(postman) as address:
        heir = deliver(f"smtp+plain://{address}", MailPace())

        async def has_arrived() -> bool:
            await heir.step()
            return bool(postman.letters)

        await eventually(has_arrived)
    assert postman.letters[0]["message-id"] == f"<{mail_id.hex}@api.example.com>"


async def test_without_a_server_a_mail_becomes_a_file_of_its_owner_and_that_is_said(
    engine: AsyncEngine, deliver: Deliver, tmp_path: Path
) -> None:
    mail_id = await put(engine)
    await deliver(FolderTransport(folder=tmp_path / "state" / "outbox")).step()
    (file,) = (tmp_path / "state" / "outbox").iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == (f"mail_{mail_id.hex}.eml", 0o600)
    assert b"Good day." in file.read_bytes()
    assert (await rows(engine))[0].sent_by == "file"
    assert "no mail server is set" in (tmp_path / "log").read_text()


async def test_a_folder_that_cannot_be_written_keeps_the_mail(engine: AsyncEngine, deliver: Deliver, tmp_path: Path) -> None:
    (tmp_path / "outbox").write_text("a file where the folder should be")
    await put(engine)
    await deliver(FolderTransport(folder=tmp_path / "outbox")).step()
    assert (await rows(engine))[0].status == "waiting"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtps://u:p@mail.example", ("mail.example", 465, True, False)),
        ("smtp://mail.example", ("mail.example", 587, False, True)),
        ("smtp+plain://mail.example:2525", ("mail.example", 2525, False, False)),
    ],
)
def test_the_address_of_a_server_says_everything(url: str, expected: tuple[str, int, bool, bool]) -> None:
    transport: SmtpTransport = smtp_transport(url, sender=SENDER)
    assert (transport.host, transport.port, transport.is_tls, transport.is_starttls) == expected


@pytest.mark.parametrize(
    ("url", "sender"),
    [
        ("mail.example", SENDER),
        ("http://u:hush@mail.example", SENDER),
        ("smtp://u:hush@mail.example:x", SENDER),
        ("smtp://", SENDER),
        ("smtp://u:hush@mail.example", "nobody"),
        ("smtp://u:hush@mail.example", "a@b.example\r\nBcc: c@d.example"),
    ],
)
def test_a_wrong_address_is_refused_without_repeating_the_password(url: str, sender: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        smtp_transport(url, sender=sender)
    assert "VLA_" in str(refusal.value)
    assert "hush" not in str(refusal.value)
