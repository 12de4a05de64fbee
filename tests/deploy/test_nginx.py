"""nginx: its configuration is valid, and what it answers by itself has the shape of every other error."""

import contextlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from control_plane.errors import ERRORS
from control_plane.identity.api_key import mint_key
from deploy.embedded.binaries import program
from deploy.embedded.nginx import Built, Door, built_with, nginx, render_conf, system_nginx
from deploy.embedded.server import NotReadyError, Server
from tests.conftest import ENVIRONMENT, free_port, running

# Answers with what it was asked; a body that does not come within 0.3 s gets its own 408, as the control plane's does.
_APP = """
import asyncio, json
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    size, more = 0, True
    try:
        async with asyncio.timeout(0.3):
            while more:
                message = await receive()
                size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        status = 200
    except TimeoutError:
        status = 408
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    body = json.dumps({"size": size, "path": scope["path"], "headers": headers}).encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
"""
_MAX_BODY_BYTES = 10_000


@pytest.fixture(scope="module")
def door(server_folder: Path) -> Door:
    """A door in a folder with a space in its name; only the first of its two upstreams is there."""
    folder = server_folder / "nginx of tests"
    folder.mkdir()
    return Door(
        program=program("nginx", override=system_nginx(), setting="VLA_NGINX_BIN"),
        folder=folder,
        access_log=folder / "access.log",
        port=free_port(),
        upstreams=(server_folder / "api-1", server_folder / "api-2"),
        max_body_bytes=_MAX_BODY_BYTES,
        body_timeout_s=10,
        key_per_s=1,
        address_per_s=1000,
        errors_url="http://127.0.0.1/errors",
    )


@pytest.fixture(scope="module")
def open_door(door: Door, server_folder: Path) -> Iterator[Door]:
    """nginx in front of one API process."""
    (server_folder / "scratch_app.py").write_text(_APP)
    socket_path = door.upstreams[0]

    async def check(_: int) -> None:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
            if probe.connect_ex(str(socket_path)) != 0:
                raise NotReadyError("no socket yet")

    upstream = Server(
        name="scratch",
        argv=(sys.executable, "-m", "uvicorn", "scratch_app:app", "--uds", str(socket_path)),
        environment=ENVIRONMENT,
        folder=server_folder,
        check=check,
    )
    with (
        running(upstream, log=server_folder / "scratch.log"),
        running(nginx(door, environment=ENVIRONMENT), log=server_folder / "nginx.log"),
    ):
        yield door


def _ask(door: Door, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], Any]:
    connection = HTTPConnection("127.0.0.1", door.port.number, timeout=10)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, dict(response.headers.items()), json.loads(response.read())
    finally:
        connection.close()


def test_counters_are_for_this_machine_alone(open_door: Door) -> None:
    if not built_with(open_door.program).has_stub_status:
        pytest.skip("the wheel's nginx was built without stub_status; with the distribution's on PATH this is tried")
    with contextlib.closing(HTTPConnection("127.0.0.1", open_door.port.number, timeout=10)) as line:
        line.request("GET", "/__nginx/status")
        response = line.getresponse()
        assert (response.status, response.read().startswith(b"Active connections: ")) == (200, True)
    through_a_stranger = _ask(open_door, "GET", "/__nginx/status", X_Forwarded_For="127.0.0.1")
    assert _is_our_error(through_a_stranger, "not_found")


def _is_our_error(answer: tuple[int, dict[str, str], Any], code: str) -> bool:
    status, headers, body = answer
    error, kind = body["error"], ERRORS[code]
    return (
        status == kind.status
        and headers["Content-Type"] == "application/json"
        and error["code"] == code
        and error["robot_action"] == kind.robot_action.value
        and error["doc_url"] == f"http://127.0.0.1/errors#{code}"
        and error["request_id"] == headers["X-Request-Id"] != ""
    )


@pytest.mark.parametrize("has_stub_status", [False, True])
def test_the_rendered_configuration_is_valid(door: Door, tmp_path: Path, has_stub_status: bool) -> None:
    built = built_with(door.program)
    text = render_conf(replace(door, folder=tmp_path), Built(version=built.version, has_stub_status=has_stub_status))
    if has_stub_status and not built.has_stub_status:
        text = text.replace("stub_status;", "return 200;")
    conf = tmp_path / "nginx.conf"
    conf.write_text(text)
    argv = [str(door.program), "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(conf)]
    tried = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr
    assert "[warn]" not in tried.stderr


def test_a_request_goes_through_though_one_process_is_away(open_door: Door) -> None:
    for number in range(6):
        status, _, body = _ask(open_door, "POST", "/v1/inference", b"x" * number)
        assert (status, body["size"]) == (200, number)


def test_a_harmless_request_id_is_passed_on_and_a_harmful_one_replaced(open_door: Door) -> None:
    assert _ask(open_door, "GET", "/x", X_Request_Id="ep-17.3")[2]["headers"]["x-request-id"] == "ep-17.3"
    made = _ask(open_door, "GET", "/x", X_Request_Id='"},{"')[2]["headers"]["x-request-id"]
    assert re.fullmatch(r"inf_[0-9a-f]{32}", made)


def test_what_a_caller_says_about_its_address_is_overwritten(open_door: Door) -> None:
    assert _ask(open_door, "GET", "/x", X_Forwarded_For="203.0.113.9")[2]["headers"]["x-forwarded-for"] == "127.0.0.1"


def test_a_body_over_the_limit_is_413_in_our_shape(open_door: Door) -> None:
    assert _is_our_error(_ask(open_door, "POST", "/v1/inference", b"x" * (_MAX_BODY_BYTES + 1)), "body_too_large")


def test_a_head_that_is_too_large_is_400_in_our_shape(open_door: Door) -> None:
    assert _is_our_error(_ask(open_door, "GET", "/" + "x" * 9000), "invalid_body")


def test_a_slow_body_gets_the_408_of_the_api_process(open_door: Door) -> None:
    with socket.create_connection(("127.0.0.1", open_door.port.number), timeout=10) as line:
        line.sendall(b"POST /v1/inference HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nonly this")
        assert line.recv(64).startswith(b"HTTP/1.1 408 ")


def test_one_key_that_floods_is_429_however_it_is_spelt_and_another_is_not(open_door: Door) -> None:
    key = mint_key()
    spellings = ("Bearer", "bearer ", "Api-Key", "API-KEY")
    answers = [_ask(open_door, "GET", "/x", Authorization=f"{spellings[number % 4]} {key}") for number in range(8)]
    assert answers[0][0] == 200
    assert _is_our_error(answers[-1], "minute_limit")
    assert answers[-1][1]["Retry-After"] == "1"
    assert _ask(open_door, "GET", "/x", Authorization=f"Bearer {mint_key()}")[0] == 200


def test_what_is_no_key_counts_for_its_address_only(open_door: Door) -> None:
    answers = [_ask(open_door, "GET", "/x", Authorization="Bearer nothing-like-a-key") for _ in range(8)]
    assert [status for status, _, _ in answers] == [200] * 8


def test_no_process_of_nginx_keeps_a_key(door: Door, server_folder: Path) -> None:
    """The zones are memory that all its processes share; a dump of it must give nobody a key."""
    logging = replace(door, folder=server_folder / "nginx whose memory is read", port=free_port(), key_per_s=1)
    key = mint_key()
    with running(nginx(logging, environment=ENVIRONMENT), log=server_folder / "nginx-memory.log"):
        pid = int((logging.folder / "nginx.pid").read_text())
        for _ in range(6):
            _ask(logging, "GET", "/x", Authorization=f"Bearer {key}")
        shared = _shared_memory(pid)
    assert f"live.{key[9:13]}.{key[-6:]}".encode() in shared  # it is counted there …
    assert key[13:-6].encode() not in shared  # … and the rest of it is not


def _shared_memory(pid: int) -> bytes:
    """What is in the zones of that nginx: its writable mappings that no file stands behind and that children share."""
    found = b""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if rights == "rw-s":
                start, end = (int(part, 16) for part in span.split("-"))
                memory.seek(start)
                found += memory.read(end - start)
    return found


def test_operators_pages_are_for_their_networks_only(open_door: Door, server_folder: Path) -> None:
    assert _ask(open_door, "GET", "/admin/v1/customers")[0] == 200
    for disguise in ("//admin/v1/customers", "/x/../admin/v1/customers", "/%61dmin/v1/customers"):
        assert _ask(open_door, "GET", disguise)[0] == 200  # the same place …
    elsewhere = replace(open_door, folder=server_folder / "nginx for operators", port=free_port(), operators=("192.0.2.0/24",))
    with running(nginx(elsewhere, environment=ENVIRONMENT), log=server_folder / "nginx-operators.log"):
        for path in ("/admin/v1/customers", "//admin/v1/customers", "/x/../admin/v1/customers", "/%61dmin/v1/customers"):
            assert _is_our_error(_ask(elsewhere, "GET", path), "not_found")  # … and as closed
    # Through a proxy that nobody trusts, everybody would look like this machine.
    assert _is_our_error(_ask(open_door, "GET", "/admin/v1/customers", X_Forwarded_For="203.0.113.9"), "not_found")


def test_the_documentation_is_served_when_it_is_there(open_door: Door, server_folder: Path) -> None:
    assert _is_our_error(_ask(replace(open_door, docs=server_folder / "none"), "GET", "/docs/none.html"), "not_found")
    site = server_folder / "site of tests"
    (site / "pricing").mkdir(parents=True)
    (site / "pricing" / "index.html").write_text("<h1>Prices</h1>")
    (site / "look.css").write_text("h1 {}")
    serving = replace(open_door, folder=server_folder / "nginx with pages", port=free_port(), docs=site)
    with running(nginx(serving, environment=ENVIRONMENT), log=server_folder / "nginx-docs.log"):
        page = _raw(serving, "/docs/pricing/")
        assert (page.status, page.headers["Content-Type"], page.headers["X-Frame-Options"]) == (200, "text/html", "DENY")
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert _raw(serving, "/docs/look.css").headers["Content-Type"] == "text/css"
        assert _raw(serving, "/docs").headers["Location"] == "/docs/"
        assert _is_our_error(_ask(serving, "GET", "/docs/../../etc/passwd"), "invalid_body")
        assert _is_our_error(_ask(serving, "GET", "/docs/"), "not_found")  # a folder without a page is not listed


def _raw(door: Door, path: str) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", door.port.number, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse()
    finally:
        connection.close()


def test_metrics_are_for_this_machine_only(open_door: Door) -> None:
    assert _ask(open_door, "GET", "/metrics")[0] == 200
    assert _is_our_error(_ask(open_door, "GET", "/metrics", X_Forwarded_For="203.0.113.9"), "not_found")


def test_the_access_log_has_json_and_no_secret(open_door: Door, server_folder: Path) -> None:
    folder, key = server_folder / "nginx with a log", mint_key()
    logging = replace(open_door, folder=folder, access_log=server_folder / "access-of-one.log", port=free_port())
    with running(nginx(logging, environment=ENVIRONMENT), log=server_folder / "nginx-logging.log"):
        _ask(logging, "GET", "/marked?key=in-the-query", Authorization=f"Bearer {key}")
    text = logging.access_log.read_text()  # whole only now: nginx logs after it has answered
    (line,) = [json.loads(line) for line in text.splitlines()]
    assert (line["path"], line["status"], line["upstream_status"]) == ("/marked", 200, "200")
    assert "in-the-query" not in text
    assert line["key"] == key[:13]  # what lists of keys show, too
    assert key[13:] not in text
    assert key[-6:] not in text


def test_when_every_process_is_away_it_is_503_in_our_shape(door: Door, server_folder: Path) -> None:
    folder = server_folder / "nginx alone"
    alone = replace(door, folder=folder, access_log=folder / "access.log", port=free_port(), upstreams=(folder / "none",))
    with running(nginx(alone, environment=ENVIRONMENT), log=server_folder / "nginx-alone.log"):
        answer = _ask(alone, "POST", "/v1/inference", b"x")
        assert _is_our_error(answer, "overloaded")
        assert answer[1]["Retry-After"] == "1"
