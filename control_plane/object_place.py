"""Where the object store is: one address taken apart. `settings` refuses a wrong one at the start, `objects` goes there."""

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a store is, taken apart from `http[s]://ACCESS:SECRET@HOST[:PORT]/BUCKET[?region=…]`."""

    endpoint: str
    is_secure: bool
    access_key: str
    secret_key: str
    bucket: str
    region: str

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Place({self.endpoint}/{self.bucket})"


def place_of(url: str) -> Place:
    """Raises ValueError naming what the address lacks, never repeating it: it holds a secret."""
    parts = urlsplit(url)
    bucket = parts.path.strip("/")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must look like https://ACCESS:SECRET@HOST:PORT/BUCKET")
    if not parts.username or not parts.password:
        raise ValueError("must hold ACCESS:SECRET@ (percent-encode / and + in them)")
    if not bucket or "/" in bucket:
        raise ValueError("must end with one bucket name: /BUCKET")
    return Place(
        endpoint=parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}",
        is_secure=parts.scheme == "https",
        access_key=unquote(parts.username),
        secret_key=unquote(parts.password),
        bucket=bucket,
        region=parse_qs(parts.query).get("region", ["us-east-1"])[0],
    )
