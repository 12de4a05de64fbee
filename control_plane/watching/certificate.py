"""When does the certificate run out that customers are shown? Asked of the public address itself, so that it is the one in use.

Any certificate will do, also one of a local authority: this is about its dates, not about whom it convinces. Blocks; run by the
worker in a thread.
"""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

_TIMEOUT_S = 5.0
_EXPIRED = 10  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED


def expires_at_s(url: str) -> float | None:
    """The instant, as Unix seconds; now, if it is over. None for an address without TLS. Raises OSError when nobody answers."""
    address = urlsplit(url)
    if address.scheme != "https" or address.hostname is None:
        return None
    place = (address.hostname, address.port or 443)
    shown = _shown(place)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the standard library reads dates only of what it has verified:
    trusting.check_hostname = False  # so the certificate itself is made the authority
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(cadata=shown)
    try:
        with _line(place, trusting) as line:
            found = line.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            return time.time()
        raise
    return float(ssl.cert_time_to_seconds(str(found["notAfter"])))


def _shown(place: tuple[str, int]) -> str:
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    with _line(place, blind) as line:
        return ssl.DER_cert_to_PEM_cert(line.getpeercert(binary_form=True) or b"")


@contextmanager
def _line(place: tuple[str, int], context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(place, timeout=_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=place[0]) as line,
    ):
        yield line
