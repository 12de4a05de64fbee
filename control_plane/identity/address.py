"""From which address the call at hand comes, for keys that may only be used from some. Fails closed: unknown is not allowed.

Our nginx speaks to the API processes over unix sockets that only the service's own user can open, and overwrites whatever a
caller says about its address: what comes that way is believed. Over TCP only `VLA_TRUSTED_PROXIES` are. The doorway notes each
call's ASGI scope in a context variable, so that no door, present or future, can forget to pass the address on; it is worked out
only for a key that asks for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_FORWARDED_FOR = b"x-forwarded-for"
_call: ContextVar[Mapping[str, Any] | None] = ContextVar("vla_call", default=None)


def note_call(scope: Mapping[str, Any]) -> None:
    """This task, and those it starts, now work for this ASGI scope."""
    _call.set(scope)


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """CIDR texts as networks. Raises ValueError."""
    return tuple(ip_network(text) for text in texts)


def calling_address(trusted: Sequence[Network]) -> Address | None:
    """Where the call comes from, past every proxy that is trusted. None: it cannot be said."""
    call = _call.get()
    if call is None:
        return None
    peer = call.get("client")  # None: a unix socket
    address = None if peer is None else _parsed(peer[0])
    if peer is not None and (address is None or not is_within(trusted, address)):
        return address
    forwarded = b",".join(value for name, value in call["headers"] if name == _FORWARDED_FOR)
    hops = forwarded.decode("latin-1").split(",") if forwarded else []
    while hops:
        address = _parsed(hops.pop())
        if address is None or not is_within(trusted, address):
            return address
    return address


def is_within(allowed: Iterable[Network], address: Address | None) -> bool:
    """Whether one of the networks holds the address."""
    return address is not None and any(address in network for network in allowed)


def _parsed(text: str) -> Address | None:
    """An IPv4 address that came wrapped in IPv6 is the IPv4 address."""
    try:
        address = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
