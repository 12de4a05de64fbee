"""nginx in production's shape, for real: TLS, HTTP/2, WebSocket, limits, slow clients, killed processes, reloads, names."""

import json
import socket
import ssl
import struct
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil
import pytest
from websockets.sync.client import connect as connect_socket

from control_plane.errors import ERRORS
from control_plane.identity.api_key import mint_key
from deploy.embedded import child
from deploy.embedded.binaries import program
from deploy.embedded.nginx import built_with, system_nginx
from deploy.embedded.settings import ROOT
from deploy.nginx.__main__ import production
from deploy.nginx.conf import render
from tests.conftest import free_port, running
from tests.control_plane.eventually import until
from tests.deploy import http2_by_hand
from tests.deploy.production_door import PUBLIC_URL, ProductionDoor, make_certificate, production_door, replica, servers


@pytest.fixture(scope="module")
def door(server_folder: Path) -> Iterator[ProductionDoor]:
    """In front of one API process. Who is slow in sending a head is cut off after one second here, after five in production."""
    one, server = replica(server_folder)
    limits = replace(production({}).limits, key_per_s=1)
    with (
        running(server, log=server_folder / "replica.log"),
        production_door(
            server_folder / "production nginx",
            upstreams=servers(one),
            limits=limits,
            edits={"client_header_timeout 5s;": "client_header_timeout 1s;"},
        ) as door,
    ):
        yield door


def _handshake(door: ProductionDoor, version: ssl.TLSVersion, protocols: tuple[str, ...] = ("http/1.1",)) -> ssl.SSLSocket:
    context = door.context()
    context.set_ciphers("ALL:@SECLEVEL=0")  # else this side would refuse the old versions by itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(list(protocols))
    line = socket.create_connection(("127.0.0.1", door.port), timeout=20)
    return context.wrap_socket(line, server_hostname="localhost")


def test_the_committed_configuration_is_what_the_template_gives() -> None:
    assert (ROOT / "deploy/nginx/nginx.conf").read_text() == render(production({}))


def test_limits_of_production_come_from_the_environment() -> None:
    changed = render(production({"VLA_MAX_BODY_BYTES": "5", "VLA_DOOR_KEY_PER_S": "7", "VLA_DOOR_ADDRESS_PER_S": "9"}))
    assert "client_max_body_size 5;" in changed
    assert "rate=7r/s" in changed
    assert "rate=9r/s" in changed


def test_the_committed_configuration_is_valid_for_a_real_nginx(tmp_path: Path, door: ProductionDoor) -> None:
    (tmp_path / "site.conf").write_text("\n".join(door.conf.site))
    places = {'"/tmp': f'"{tmp_path}', "/etc/nginx/site": str(tmp_path), "/etc/nginx/tls": str(door.certificate.parent)}
    text = (ROOT / "deploy/nginx/nginx.conf").read_text().replace('access_log "/dev/stdout" json', "access_log off")
    for before, after in places.items():
        text = text.replace(before, after)
    (tmp_path / "nginx.conf").write_text(text.replace("stub_status;", "return 200;"))  # the wheel's nginx has no stub_status
    nginx = program("nginx", override=None, setting="VLA_NGINX_BIN")
    argv = [str(nginx), "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    tried = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr
    assert "[warn]" not in tried.stderr


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_of_today_is_spoken(door: ProductionDoor, version: ssl.TLSVersion) -> None:
    with _handshake(door, version) as line:
        assert line.version() == version.name.replace("_", ".")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_tls_of_yesterday_is_refused(door: ProductionDoor, version: ssl.TLSVersion) -> None:
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        _handshake(door, version)


def test_http_2_is_chosen_and_works(door: ProductionDoor) -> None:
    with _handshake(door, ssl.TLSVersion.TLSv1_3, ("h2", "http/1.1")) as line:
        assert line.selected_alpn_protocol() == "h2"
        assert http2_by_hand.get(line, "/v1/models", authority="localhost") == 200
    with _handshake(door, ssl.TLSVersion.TLSv1_3, ("h2", "http/1.1")) as line:
        assert http2_by_hand.get(line, "/admin/v1/customers", authority="localhost") == 404


def test_a_websocket_goes_through(door: ProductionDoor) -> None:
    with connect_socket(f"wss://localhost:{door.port}/v1/stream", ssl=door.context()) as line:
        line.send("hold")
        assert line.recv(timeout=20) == "hold"


def test_every_answer_has_the_headers_of_safety(door: ProductionDoor) -> None:
    for path, status in (("/v1/models", 200), ("/admin/v1/customers", 404)):
        found, headers, _ = door.ask("GET", path)
        assert found == status
        assert headers["Strict-Transport-Security"] == "max-age=31536000"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["Server"] == "nginx"  # and no version


def test_plain_http_is_sent_to_the_public_address(door: ProductionDoor) -> None:
    (door.folder / "acme/.well-known/acme-challenge").mkdir(parents=True)
    (door.folder / "acme/.well-known/acme-challenge/token").write_text("proof")
    with closing(HTTPConnection("127.0.0.1", door.plain_port, timeout=20)) as line:
        line.request("POST", "/v1/inference?x=1", b"{}", {"Host": "evil.example.com"})
        response = line.getresponse()
        assert (response.status, response.headers["Location"]) == (308, f"{PUBLIC_URL}/v1/inference?x=1")
        response.read()
        line.request("GET", "/.well-known/acme-challenge/token")
        assert line.getresponse().read() == b"proof"


def test_errors_of_its_own_point_at_the_public_address(door: ProductionDoor) -> None:
    error = door.ask("GET", "/admin/v1/customers")[2]["error"]
    assert (error["code"], error["doc_url"]) == ("not_found", f"{PUBLIC_URL}/errors#not_found")


def test_the_status_port_answers_the_health_check_and_nothing_else(door: ProductionDoor) -> None:
    with closing(HTTPConnection("127.0.0.1", door.status_port, timeout=20)) as line:
        line.request("GET", "/__nginx/health")
        response = line.getresponse()
        assert (response.status, json.loads(response.read())) == (200, {"status": "ok"})
        line.request("GET", "/v1/models")
        assert line.getresponse().status == 404


def test_its_counters_are_told_on_the_status_port_and_nowhere_else(server_folder: Path) -> None:
    """As the exporter asks for them, from a network that nobody else is in; at the door the address is the API's to answer."""
    chosen = system_nginx() or program("nginx", override=None, setting="VLA_NGINX_BIN")
    built = built_with(chosen)
    if not built.has_stub_status:
        assert "location = /__nginx/status {  stub_status; }" in render(production({}))
        pytest.skip("the wheel's nginx was built without stub_status; with the distribution's on PATH this is tried")
    older = {} if built.version >= (1, 25, 1) else {"http2 on;": "", "http2_body_preread_size 512k;": ""}
    one, server = replica(server_folder)
    with (
        running(server, log=server_folder / "counted.log"),
        production_door(server_folder / "nginx counted", upstreams=servers(one), edits=older, chosen=chosen) as door,
        closing(HTTPConnection("127.0.0.1", door.status_port, timeout=20)) as line,
    ):
        line.request("GET", "/__nginx/status")
        response = line.getresponse()
        assert (response.status, response.read().startswith(b"Active connections: ")) == (200, True)
        status, _, body = door.ask("GET", "/__nginx/status")
        assert (status, body["pid"] > 0) == (200, True)  # the answer of the process behind the door
        with closing(HTTPConnection("127.0.0.1", door.plain_port, timeout=20)) as plain:
            plain.request("GET", "/__nginx/status")
            assert plain.getresponse().status == 308


def test_a_key_that_floods_is_429_in_our_shape(door: ProductionDoor) -> None:
    key = mint_key()
    answers = [door.ask("POST", "/v1/inference", b"{}", Authorization=f"Bearer {key}") for _ in range(6)]
    status, headers, body = answers[-1]
    assert [answers[0][0], status] == [200, 429]
    assert body["error"]["code"] == "minute_limit"
    assert body["error"]["robot_action"] == ERRORS["minute_limit"].robot_action.value
    assert headers["Retry-After"] == "1"
    assert door.ask("POST", "/v1/inference", b"{}", Authorization=f"Bearer {mint_key()}")[0] == 200


def test_an_address_that_floods_with_many_keys_is_429(server_folder: Path) -> None:
    one, server = replica(server_folder)
    limits = replace(production({}).limits, address_per_s=1)
    with (
        running(server, log=server_folder / "replica-flood.log"),
        production_door(server_folder / "nginx that is flooded", upstreams=servers(one), limits=limits) as door,
    ):
        answers = [door.ask("GET", "/x", Authorization=f"Bearer {mint_key()}")[0] for _ in range(8)]
    assert answers[0] == 200
    assert answers[-1] == 429


def test_who_sends_a_head_drop_by_drop_is_cut_off(door: ProductionDoor) -> None:
    """One byte after another would keep a time-out between bytes from ever running out; the whole head is timed."""
    assert "client_header_timeout 5s;" in render(production({}))
    with _handshake(door, ssl.TLSVersion.TLSv1_3) as line, pytest.raises((ConnectionError, ssl.SSLError)):
        _drip(line, b"GET / HTTP/1.1\r\nX-Slow: " + b"x" * 500)
    assert door.ask("GET", "/x")[0] == 200


def test_a_body_of_ten_megabytes_goes_through_and_a_larger_one_is_413(door: ProductionDoor) -> None:
    limit = production({}).limits.max_body_bytes
    assert limit == 10_000_000
    status, _, body = door.ask("POST", "/v1/inference", b"x" * limit)
    assert (status, body["size"]) == (200, limit)
    assert door.ask("POST", "/v1/inference", b"x" * (limit + 1))[2]["error"]["code"] == "body_too_large"


def test_a_post_whose_process_is_killed_is_not_sent_to_another(server_folder: Path) -> None:
    replicas = [replica(server_folder) for _ in range(2)]
    processes = [child.spawn(server, log=server_folder / "killed.log") for _, server in replicas]
    answers: list[tuple[int, str]] = []

    def ask(door: ProductionDoor) -> None:
        status, _, body = door.ask("POST", "/hang", b"{}")
        answers.append((status, body["error"]["code"]))

    try:
        for one, _ in replicas:
            until(partial(_listens, one.port))
        with production_door(server_folder / "nginx with two", upstreams=servers(*(one for one, _ in replicas))) as door:
            thread = threading.Thread(target=ask, args=(door,))
            thread.start()
            until(lambda: any(one.requests for one, _ in replicas))
            taken = next(number for number, (one, _) in enumerate(replicas) if one.requests)
            child.bury(replicas[taken][1], processes[taken])
            thread.join(60)
            assert answers == [(503, "overloaded")]
            assert replicas[1 - taken][0].requests == []  # it was not sent there a second time
            # Nobody else notices: what had not been sent yet goes to the process that lives.
            assert [door.ask("POST", "/v1/inference", b"{}")[0] for _ in range(10)] == [200] * 10
    finally:
        for (_, server), process in zip(replicas, processes, strict=True):
            child.bury(server, process)


def test_a_reload_under_load_drops_no_request(door: ProductionDoor) -> None:
    stop, answered, failed = threading.Event(), [0] * 4, list[str]()

    def ask_again_and_again(number: int, *, keeps_line: bool) -> None:
        line = door.connect()
        while not stop.is_set():
            try:
                line.request("POST", "/v1/inference", b"x" * 1000)
                response = line.getresponse()
                response.read()
                assert response.status == 200
                answered[number] += 1
            except (OSError, HTTPException, AssertionError) as error:
                failed.append(repr(error))
            if not keeps_line:
                line.close()
        line.close()

    threads = [
        threading.Thread(target=ask_again_and_again, args=(number,), kwargs={"keeps_line": number % 2 == 0})
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            before, goal = _awake(door), [count + 5 for count in answered]
            door.reload()
            until(partial(_is_another, door, before))
            until(partial(_are_past, answered, goal))
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert failed == []


def test_a_renewed_certificate_is_shown_without_anybody_doing_anything(server_folder: Path) -> None:
    """Also when only one of its two files is there yet: then the old pair is shown on, and the new one once it is whole."""
    one, server = replica(server_folder)
    folder, fresh = server_folder / "nginx that follows", server_folder / "fresh"
    fresh.mkdir()
    certificate, key = make_certificate(fresh)
    with (
        running(server, log=server_folder / "followed.log"),
        production_door(folder, upstreams=servers(one), is_followed=True) as door,
    ):
        old = _shown(door)
        certificate.rename(door.certificate)
        until(lambda: "key values mismatch" in (folder / "nginx.log").read_text())
        assert _shown(door) == old
        key.rename(folder / "tls/privkey.pem")
        until(lambda: _shown(door) != old)
        assert door.ask("POST", "/v1/inference", b"{}")[0] == 200


def _shown(door: ProductionDoor) -> str:
    return ssl.get_server_certificate(("127.0.0.1", door.port), timeout=20)


def test_replicas_that_come_and_go_are_followed_by_name(server_folder: Path) -> None:
    """The upstream is production's, but for the name server's address, the port, and how long a name is believed."""
    port = free_port().number
    (_, first), (_, second) = (replica(server_folder, address=address, port=port) for address in ("127.0.0.1", "127.0.0.2"))
    with (
        running(first, log=server_folder / "named-1.log"),
        running(second, log=server_folder / "named-2.log"),
        _name_server(["127.0.0.1"]) as (names, name_port),
    ):
        lines = tuple(
            line.replace("127.0.0.11 valid=5s", f"127.0.0.1:{name_port} valid=1s").replace("api:8000", f"api:{port}")
            for line in production({}).upstreams
        )
        with production_door(server_folder / "nginx and names", upstreams=lines) as door:
            until(lambda: _who_answers(door) == "127.0.0.1")
            names[:] = ["127.0.0.2"]
            until(lambda: _who_answers(door) == "127.0.0.2")
            names[:] = ["127.0.0.1", "127.0.0.2"]
            until(lambda: {_who_answers(door) for _ in range(8)} == {"127.0.0.1", "127.0.0.2"})


def _who_answers(door: ProductionDoor) -> str | None:
    status, _, body = door.ask("GET", "/x")
    return str(body["at"]) if status == 200 else None


@contextmanager
def _name_server(addresses: list[str]) -> Iterator[tuple[list[str], int]]:
    """Answers every question with the addresses that are in the list at that moment."""
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.bind(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            question, asker = line.recvfrom(512)
            if not question:  # the end
                return
            end = question.index(b"\0", 12) + 5
            found = tuple(addresses)
            head = question[:2] + struct.pack(">HHHHH", 0x8180, 1, len(found), 0, 0)
            records = (b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(address) for address in found)
            line.sendto(head + question[12:end] + b"".join(records), asker)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield addresses, line.getsockname()[1]
    finally:
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other:
            other.sendto(b"", line.getsockname())
        thread.join(30)
        line.close()


def _awake(door: ProductionDoor) -> set[int]:
    """The workers that take new lines: one that is shutting down says so in its title."""
    awake = set()
    for worker in psutil.Process(door.pid).children():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if "shutting down" not in " ".join(worker.cmdline()):
                awake.add(worker.pid)
    return awake


def _is_another(door: ProductionDoor, before: set[int]) -> bool:
    now = _awake(door)
    return bool(now) and not now & before


def _are_past(counts: list[int], goal: list[int]) -> bool:
    return all(now >= then for now, then in zip(counts, goal, strict=True))


def _drip(line: ssl.SSLSocket, data: bytes) -> None:
    for byte in data:
        line.sendall(bytes([byte]))
        time.sleep(0.1)


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
