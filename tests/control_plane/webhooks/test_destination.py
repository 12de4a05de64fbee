"""Where a webhook may not go: into anybody's own network, whatever the address is dressed up as."""

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from control_plane.errors import ApiError
from control_plane.webhooks.destination import is_public, resolve


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 -- to be refused
        "224.0.0.1",
        "255.255.255.255",
        "2130706433",  # 127.0.0.1 as one number
        "0x7f.1",
        "127.1",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",  # 169.254.169.254 behind NAT64
        "[2002:7f00:1::]",  # 127.0.0.1 in 6to4
        "[ff02::1]",
    ],
)
async def test_addresses_inside_a_network_are_refused(host: str) -> None:
    for scheme in ("https", "http"):
        with pytest.raises(ApiError) as refusal:
            await resolve(f"{scheme}://{host}/hooks", is_loopback_allowed=False)
        assert (refusal.value.kind.code, refusal.value.param) == ("invalid_field", "url")


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
async def test_public_addresses_are_taken_with_tls_only(text: str) -> None:
    host = f"[{text}]" if ":" in text else text
    to = await resolve(f"https://{host}/a?b=1", is_loopback_allowed=False)
    assert (to.url, str(to.address), to.port) == (f"https://{host}:443/a?b=1", text, 443)
    with pytest.raises(ApiError):
        await resolve(f"http://{host}/a", is_loopback_allowed=True)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://8.8.8.8/",
        "https://user:pass@8.8.8.8/",
        "https://@8.8.8.8/",
        "https://8.8.8.8/#x",
        "https://8.8.8.8:99999/",
        "https:///hooks",
        "javascript:alert(1)",
        "https://8.8.8.8/\r\nHost: x",
        "https://exämple.com/",
        "https://no-such-host.invalid/",
        "https://8.8.8.8/" + "x" * 500,
        "//8.8.8.8/",
        "",
    ],
)
async def test_what_is_no_plain_address_is_refused(url: str) -> None:
    with pytest.raises(ApiError) as refusal:
        await resolve(url, is_loopback_allowed=True)
    assert refusal.value.param == "url"


async def test_in_development_loopback_is_taken_and_nothing_else_inside() -> None:
    assert str((await resolve("http://127.0.0.1:8000/", is_loopback_allowed=True)).address) == "127.0.0.1"
    for host in ("10.0.0.1", "169.254.169.254", "[fd00::1]"):
        with pytest.raises(ApiError):
            await resolve(f"http://{host}/", is_loopback_allowed=True)


async def test_a_name_with_one_address_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
    with pytest.raises(ApiError):
        await resolve("https://two-faced.example/", is_loopback_allowed=False)


async def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["8.8.8.8", "127.0.0.1"])

    async def found(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", (next(answers), 443))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
    to = await resolve("https://rebinding.example/x", is_loopback_allowed=False)
    assert (to.url, to.host_header) == ("https://8.8.8.8:443/x", "rebinding.example")


def test_special_ranges_are_not_public() -> None:
    for text in ("198.18.0.1", "192.0.2.1", "203.0.113.1", "240.0.0.1", "2001:db8::1", "100::1"):
        assert not is_public(ip_address(text)), text
