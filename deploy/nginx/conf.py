"""The text of nginx.conf from values: what `make up` and production share is in the template, what differs comes in here.

Error bodies come from the one table in `control_plane.errors`. Knows no process and no folder of ours: `deploy.embedded.nginx`
starts one on this machine, `python -m deploy.nginx` writes production's.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from string import Template

from control_plane.errors import ApiError, error_body

HEALTH = "/__nginx/health"
STATUS = "/__nginx/status"
_TEMPLATE = Path(__file__).with_name("nginx.conf.template")
_SOCKETS_PER_ADDRESS = 500  # open at once; a fleet often shares one address
_KEEPALIVE_MIN_SINCE = (1, 27, 4)

# `strict_transport` is empty without TLS, and nginx leaves an empty header out.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "$content_policy",
    "Strict-Transport-Security": "$strict_transport",
}

# What nginx answers by itself: its statuses, the row of the error table, and a message where the row's own does not fit.
_OWN_ERRORS: tuple[tuple[str, str, str | None], ...] = (
    ("400 414 494 501", "invalid_body", "The request is not valid HTTP, not in a form that is taken, or its head is too large."),
    ("403 404", "not_found", None),
    ("405", "method_not_allowed", None),
    ("408", "body_timeout", None),
    ("413", "body_too_large", None),
    ("429", "minute_limit", "Requests come faster, or sockets are more, than this service takes from one key or address."),
    ("500", "internal_error", None),
    ("502 503 504", "overloaded", None),
)
_RETRY_AFTER_S = {"overloaded": 1, "minute_limit": 1}

_TLS = """\
        ssl_certificate "{certificate}";
        ssl_certificate_key "{key}";
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ciphers {ciphers};
        ssl_prefer_server_ciphers off;
        ssl_session_cache shared:tls:10m;
        ssl_session_timeout 1d;
        ssl_session_tickets off;
        http2 on;
        http2_body_preread_size 512k; # an observation comes in one go, not in windows of 64 KB
        error_page 497 =301 $vla_public_url$request_uri; # plain HTTP on this port"""
_CIPHERS = ":".join(
    f"ECDHE-{proof}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for proof in ("ECDSA", "RSA")
)

# A key that came without TLS has been seen by others; it is not carried on, and the caller learns the right address.
_PLAIN = """
    server {{
        listen {listen};
        server_name _;
        location /.well-known/acme-challenge/ {{ root "{acme}"; default_type text/plain; }}
        location / {{ return 308 $vla_public_url$request_uri; }}
    }}"""

# For the exporter and the health check, in the containers' own network: this port is never published.
_STATUS = """
    server {{
        listen {listen};
        server_name _;
        access_log off;
        location = {health} {{ return 200 '{{"status":"ok"}}'; }}
        {stub_status}
        location / {{ return 404; }}
    }}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is let through."""

    max_body_bytes: int
    body_timeout_s: float
    key_per_s: int
    address_per_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Where the certificate lies, and the two listeners that only production has."""

    certificate: str
    key: str
    plain_listen: str
    acme: str  # folder of the answers to a certificate authority
    status_listen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """One nginx. `upstreams` and `site` are lines of configuration: the API processes, and what differs from site to site."""

    limits: Limits
    scratch: str
    access_log: str
    listen: str
    upstreams: tuple[str, ...]
    site: tuple[str, ...]
    errors_url: str
    docs: str
    open_files: int
    version: tuple[int, ...]
    has_stub_status: bool
    user: str = ""
    workers: str = "2"
    drain_s: int = 2
    upstream_idle_s: int = 5
    tls: Tls | None = None


def render(conf: Conf) -> str:
    """The whole nginx.conf."""
    limits, tls = conf.limits, conf.tls
    return Template(_TEMPLATE.read_text()).substitute(
        user=f"user {conf.user};" if conf.user else "",
        workers=conf.workers,
        open_files=conf.open_files,
        connections=conf.open_files // 2,
        drain_s=conf.drain_s,
        scratch=_quoted(conf.scratch),
        access_log=_quoted(conf.access_log),
        listen=conf.listen if tls is None else f"{conf.listen} ssl",
        upstreams=_lines(conf.upstreams, indent=8),
        upstream_idle_s=conf.upstream_idle_s,
        site=_lines(conf.site, indent=4),
        tls="" if tls is None else _TLS.format(certificate=tls.certificate, key=tls.key, ciphers=_CIPHERS),
        headers=_lines(_header_lines(_HEADERS), indent=8),
        keepalive_min=_keepalive_min(conf.version),
        max_body_bytes=limits.max_body_bytes,
        body_gap_s=math.ceil(limits.body_timeout_s) + 5,
        key_per_s=limits.key_per_s,
        key_burst=2 * limits.key_per_s,
        address_per_s=limits.address_per_s,
        address_burst=2 * limits.address_per_s,
        sockets_per_address=_SOCKETS_PER_ADDRESS,
        errors="\n".join(_error_location(*row, conf.errors_url) for row in _OWN_ERRORS),
        docs=_quoted(conf.docs),
        health=HEALTH,
        stub_status=_stub_status(conf, "if ($is_local = 0) { return 404; }") if tls is None else "",
        more_servers="" if tls is None else _more_servers(conf, tls),
    )


def site_lines(*, operators: tuple[str, ...], trusted: tuple[str, ...], public_url: str | None = None) -> tuple[str, ...]:
    """What differs from site to site: networks of operators, load balancers whose word is taken, the address that customers use.

    Behind a load balancer the caller is the last address that no trusted machine wrote; limits and logs are of that one.
    """
    allowed = " ".join(f"{network} 1;" for network in operators)
    return (
        *((f'map "" $vla_public_url {{ default "{public_url}"; }}',) if public_url else ()),
        f"geo $vla_is_operator {{ default 0; {allowed} }}",
        *(f"set_real_ip_from {network};" for network in trusted),
        *(("real_ip_header X-Forwarded-For;", "real_ip_recursive on;") if trusted else ()),
    )


def _more_servers(conf: Conf, tls: Tls) -> str:
    plain = _PLAIN.format(listen=tls.plain_listen, acme=tls.acme)
    return plain + _STATUS.format(listen=tls.status_listen, health=HEALTH, stub_status=_stub_status(conf, ""))


def _stub_status(conf: Conf, condition: str) -> str:
    return f"location = {STATUS} {{ {condition} stub_status; }}" if conf.has_stub_status else ""


def _keepalive_min(version: tuple[int, ...]) -> str:
    """Without it a reload closes lines that wait for their next request, and a robot meets a reset."""
    return "keepalive_min_timeout 5s;" if version >= _KEEPALIVE_MIN_SINCE else ""


def _error_location(statuses: str, code: str, message: str | None, errors_url: str) -> str:
    retry_after_s = _RETRY_AFTER_S.get(code)
    error = ApiError(code, message, retry_after_ms=None if retry_after_s is None else 1000 * retry_after_s)
    body = json.dumps(error_body(error, request_id="$vla_request_id", errors_url=errors_url)).replace("'", "\\'")
    # A location with a header of its own has none of the server's.
    headers = {**_HEADERS, "X-Request-Id": "$vla_request_id", "Retry-After": retry_after_s}
    lines = " ".join(_header_lines({name: str(value) for name, value in headers.items() if value is not None}))
    status = error.kind.status
    return (
        f"        error_page {statuses} ={status} /__errors/{code};\n"
        f"        location = /__errors/{code} {{ internal; {lines} return {status} '{body}'; }}"
    )


def _header_lines(headers: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"add_header {name} {value} always;" for name, value in headers.items())


def _lines(lines: tuple[str, ...], *, indent: int) -> str:
    return "\n".join(" " * indent + line for line in lines)


def _quoted(path: str) -> str:
    return path.replace('"', '\\"')
