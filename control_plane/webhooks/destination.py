"""Where a webhook may go: never to an address inside somebody's network. Asked when it is registered and at every delivery.

The name is resolved here, every address it has must be public, and the connection then goes to the address that was checked, so a
name that changes its mind in between leads nowhere. Fails closed. Knows no table.
"""

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from control_plane.errors import ApiError

MAX_URL = 500
_RESOLVE_S = 5.0
_NAT64 = ip_network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A checked address to connect to, and the name that the certificate must have."""

    scheme: str
    host: str
    port: int
    address: Address
    target: str  # path and query

    @property
    def url(self) -> str:
        """With the address in the name's place."""
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{self.scheme}://{host}:{self.port}{self.target}"

    @property
    def host_header(self) -> str:
        """The name as the receiver expects it."""
        usual = 443 if self.scheme == "https" else 80
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == usual else f"{name}:{self.port}"


async def resolve(url: str, *, is_loopback_allowed: bool) -> Destination:
    """The destination. Raises ApiError naming `url`; the text says what to change and nothing of our network."""
    parts = _parsed(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    addresses = await _addresses(host, port)
    is_all_loopback = all(address.is_loopback for address in addresses)
    is_development = is_loopback_allowed and is_all_loopback
    if not is_development and not all(map(is_public, addresses)):
        raise _refused("must lead to a public address.")
    if parts.scheme != "https" and not is_development:
        raise _refused("must begin with https://.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Destination(scheme=parts.scheme, host=host, port=port, address=addresses[0], target=target)


def is_public(address: Address) -> bool:
    """Whether anybody on the Internet could mean this address. An IPv4 address inside an IPv6 one counts as itself."""
    inner = _inner(address)
    if inner is not None:
        return is_public(inner)
    is_special = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local
    return address.is_global and not is_special


def _inner(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def _parsed(url: str) -> SplitResult:
    if len(url) > MAX_URL or not url.isascii() or any(character.isspace() or ord(character) < 32 for character in url):
        raise _refused(f"must be plain ASCII without blanks, at most {MAX_URL} characters.")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _refused("is not an address.") from None
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise _refused("must begin with https:// and name a host.")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc or parts.fragment:
        raise _refused("must hold no user, password or fragment.")
    return parts


async def _addresses(host: str, port: int) -> list[Address]:
    try:
        return [ip_address(host)]
    except ValueError:
        pass
    try:
        async with asyncio.timeout(_RESOLVE_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ip_address(entry[4][0]) for entry in found]
    except (OSError, UnicodeError, TimeoutError, ValueError):
        addresses = []
    if not addresses:
        raise _refused("names a host that cannot be found.")
    return addresses


def _refused(what: str) -> ApiError:
    return ApiError("invalid_field", f"url {what}", param="url")
