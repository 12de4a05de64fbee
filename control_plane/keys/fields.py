"""What names and numbers that people type may be. Each function returns the clean value or raises ApiError naming the field.

Used by the verbs of `keys` and `customers`, so that the command line and any later API refuse the same things.
"""

import re
import unicodedata
from collections.abc import Collection
from datetime import date, timedelta
from ipaddress import IPv6Network, ip_network

from billing.segments import month_named
from control_plane.errors import ApiError
from control_plane.identity.data_policy import DataPolicy
from safety.profile import known_robots

MAX_NUMBER = 2_000_000_000  # PostgreSQL's integer holds a little more
MAX_ENTRIES = 50  # of a list
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_DURATION = re.compile(r"([0-9]{1,7})([smhd]?)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_JOINERS = "\u200c\u200d"  # Persian, Hindi and emoji need them; other invisible characters only mislead
_INVISIBLE = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
_MAX_EMAIL = 254
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")


def clean_name(text: str, *, field: str, max_length: int) -> str:
    """One line of visible text, in Unicode's composed form."""
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise _invalid(field, "must not be empty.")
    if len(name) > max_length:
        raise _invalid(field, f"must not be longer than {max_length} characters.")
    if any(unicodedata.category(character) in _INVISIBLE and character not in _JOINERS for character in name):
        raise _invalid(field, "must not contain control characters, line breaks or invisible characters.")
    return name


def clean_email(text: str) -> str:
    """An address as it was written. Two that differ only in case belong to one customer."""
    email = clean_name(text, field="email", max_length=_MAX_EMAIL)
    if not _EMAIL.fullmatch(email):
        raise _invalid("email", "must be an address such as ops@example.com.")
    return email


def positive(number: int | None, *, field: str, at_most: int = MAX_NUMBER) -> int | None:
    """A count that is at least one, or None."""
    if number is not None and not 1 <= number <= at_most:
        raise _invalid(field, f"must be a whole number from 1 to {at_most}.")
    return number


def clean_names(names: Collection[str] | None, *, field: str) -> tuple[str, ...] | None:
    """Names of robots or policies, each once, in order. None: any."""
    if names is None:
        return None
    _count(names, field=field)
    for name in names:
        if not _NAME.fullmatch(name):
            raise _invalid(field, f"must be names such as franka_panda; {name[:40]!r} is none.")
    return tuple(sorted(set(names)))


def clean_robots(names: Collection[str] | None) -> tuple[str, ...] | None:
    """Robots that have a safety profile."""
    robots, known = clean_names(names, field="robots"), known_robots()
    unknown = sorted(set(robots or ()) - set(known))
    if unknown:
        raise _invalid("robots", f"must be of {', '.join(known)}; {unknown[0][:40]!r} is none.")
    return robots


def clean_networks(texts: Collection[str] | None) -> tuple[str, ...] | None:
    """Addresses and networks (CIDR), IPv4 or IPv6, in their usual form. None: from anywhere."""
    if texts is None:
        return None
    _count(texts, field="allowed_ips")
    return tuple(sorted({_network(text) for text in texts}))


def clean_data_policy(word: str | None) -> DataPolicy | None:
    """One of the four. None: as the customer's."""
    if word is not None and word not in set(DataPolicy):
        raise _invalid("data_policy", f"must be one of {', '.join(DataPolicy)}.")
    return None if word is None else DataPolicy(word)


def clean_duration(text: str, *, field: str) -> timedelta:
    """`24h`, `90m`, `7d`, `30s` or `0`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or (not match[2] and int(match[1])):
        raise _invalid(field, "must be a time such as 24h, 90m, 7d, or 0.")
    return timedelta(**{_UNITS[match[2] or "s"]: int(match[1])})


def clean_month(text: str) -> date:
    """The first day of a UTC month written as `2026-11`."""
    try:
        return month_named(text)
    except ValueError:
        raise _invalid("month", f"must be like 2026-11, not {text[:40]!r}.") from None


def _network(text: str) -> str:
    try:
        network = ip_network(text.strip())
    except ValueError as fault:
        reason = "has bits set to the right of its mask" if "host bits" in str(fault) else "is no address and no network"
        raise _invalid("allowed_ips", f"must be addresses or networks such as 203.0.113.0/24; {text[:50]!r} {reason}.") from None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise _invalid("allowed_ips", f"must name IPv4 networks as such; {text[:50]!r} is one wrapped in IPv6.")
    return str(network)


def _count(values: Collection[str], *, field: str) -> None:
    if not 1 <= len(values) <= MAX_ENTRIES:
        raise _invalid(field, f"must have from 1 to {MAX_ENTRIES} entries.")


def _invalid(field: str, what: str) -> ApiError:
    return ApiError("invalid_field", f"{field} {what}", param=field)
