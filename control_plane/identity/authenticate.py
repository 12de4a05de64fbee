"""Who calls: this process's cache first, then the checksum, then what the stores say. Fails closed.

`RevocationListener` tells this cache what has changed; without it nothing is believed longer than `cache_s`. A key in steady use
is looked up again in the background before that, so that a robot's control loop does not wait for a store, be it slow or gone.
Knows no HTTP framework and no SQL.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cachetools import TTLCache
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.errors import ERRORS, ApiError
from control_plane.identity.address import Network, calling_address, is_within, networks
from control_plane.identity.api_key import digester, is_as_long, is_well_formed
from control_plane.identity.last_used import LastUsed
from control_plane.identity.principal import Principal
from control_plane.identity.read_through import Found, ReadThrough, Source
from control_plane.identity.record import KeyRecord
from control_plane.metrics import Metrics
from control_plane.tallies import Counts

_SCHEMES = frozenset({"bearer", "api-key"})
_CACHED_KEYS = 10_000
_UNKNOWN_S = 1.0  # keeps one wrong key in a loop away from PostgreSQL; creating a key clears it at once
_FRESH_SHARE = 0.4  # of `cache_s`; what remains is longer than the stores' own time-outs
_RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    record: KeyRecord
    principal: Principal
    allowed_networks: tuple[Network, ...] | None
    refresh_at_s: float  # both on the monotonic clock
    believed_until_s: float


class Authenticator:
    """Turns an Authorization header into a Principal. One per process. Start and stop its `last_used` with the process."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        redis: Redis,
        pepper: bytes,
        cache_s: float,
        metrics: Metrics,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        self.last_used = LastUsed(engine=engine)
        self._trusted_proxies = trusted_proxies
        self._stores = ReadThrough(
            engine=engine, redis=redis, cache_s=cache_s, is_away=metrics.breaker_open.labels("postgres").set
        )
        self._digest = digester(pepper=pepper)
        self._cache_s = cache_s
        self._outcomes = Counts(metrics.auth, metrics.tallies)
        self._entries: dict[bytes, _Entry] = {}
        self._unknown: TTLCache[bytes, bool] = TTLCache(_CACHED_KEYS, ttl=min(_UNKNOWN_S, cache_s))
        self._lookups: dict[bytes, asyncio.Task[Found | None]] = {}
        self._tasks: set[asyncio.Task[Found | None]] = set()

    async def authenticate(self, authorization: str | None) -> Principal:
        """Raises ApiError: missing_key, malformed_key, unknown_key, revoked_key, expired_key, inactive_customer,
        address_not_allowed, store_unavailable. A missing or malformed key touches no store.
        """
        key = _key_in(authorization)
        if key is None:
            raise self._refuse("missing_key", Source.NONE)
        if not is_as_long(key):
            raise self._refuse("malformed_key", Source.NONE)
        digest = self._digest(key)
        entry, source = self._cached(digest), Source.PROCESS
        if entry is None:
            if not is_well_formed(key):  # asked here, because only keys that are get into the cache
                raise self._refuse("malformed_key", Source.NONE)
            entry, source = await self._fetch(digest)
        now_s = time.time()
        refusal = entry.record.refusal(now_s=now_s)
        if refusal is None and not self._is_from_where_it_may(entry):
            refusal = "address_not_allowed"
        if refusal is not None:
            raise self._refuse(refusal, source)
        self.last_used.note(entry.principal.key_id, now_s)
        self._outcomes[source, "ok"].inc()
        return entry.principal

    def forget(self, digests: Iterable[bytes]) -> None:
        """These keys have changed. What is being looked up at this moment answers who asked, but is not kept."""
        for digest in digests:
            self._entries.pop(digest, None)
            self._unknown.pop(digest, None)
            self._lookups.pop(digest, None)

    def forget_all(self) -> None:
        """Any key may have changed."""
        self._entries.clear()
        self._unknown.clear()
        self._lookups.clear()

    async def close(self) -> None:
        """Ends what is still being looked up. Call it before the engine and the client are closed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_from_where_it_may(self, entry: _Entry) -> bool:
        allowed = entry.allowed_networks
        return allowed is None or is_within(allowed, calling_address(self._trusted_proxies))

    def _cached(self, digest: bytes) -> _Entry | None:
        entry = self._entries.get(digest)
        if entry is None:
            return None
        now_s = time.monotonic()
        if entry.believed_until_s <= now_s:
            return None
        if entry.refresh_at_s <= now_s and digest not in self._lookups:
            self._start(digest, max_age_s=self._cache_s * _FRESH_SHARE)
        return entry

    async def _fetch(self, digest: bytes) -> tuple[_Entry, Source]:
        """Many may ask for one key at the same moment: one looks. Nobody's cancelled request cancels the others'."""
        if digest in self._unknown:
            raise self._refuse("unknown_key", Source.PROCESS)
        found = await asyncio.shield(self._lookups.get(digest) or self._start(digest, max_age_s=self._cache_s))
        if found is None:
            raise self._refuse("store_unavailable", Source.NONE)
        if found.record is None:
            raise self._refuse("unknown_key", found.source)
        return self._entry(found.record, found.believed_for_s), found.source

    def _start(self, digest: bytes, *, max_age_s: float) -> asyncio.Task[Found | None]:
        task = asyncio.create_task(self._look_up(digest, max_age_s))
        self._lookups[digest] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _look_up(self, digest: bytes, max_age_s: float) -> Found | None:
        try:
            found = await self._stores.read(digest, max_age_s=max_age_s)
            if found is not None and self._is_current(digest):
                self._keep(digest, found)
            return found
        finally:
            if self._is_current(digest):
                del self._lookups[digest]

    def _is_current(self, digest: bytes) -> bool:
        """Whether this task is still the look-up for the digest. It is not when the key was forgotten since it began."""
        return self._lookups.get(digest) is asyncio.current_task()

    def _keep(self, digest: bytes, found: Found) -> None:
        """A key in use is kept anew every few seconds, so that the one that was kept longest ago is the one to drop."""
        self._entries.pop(digest, None)
        if found.record is None:
            self._unknown[digest] = True
            return
        self._entries[digest] = self._entry(found.record, found.believed_for_s)
        if len(self._entries) > _CACHED_KEYS:
            del self._entries[next(iter(self._entries))]

    def _entry(self, record: KeyRecord, believed_for_s: float) -> _Entry:
        now_s = time.monotonic()
        return _Entry(
            record=record,
            principal=record.principal(),
            allowed_networks=None if record.allowed_ips is None else networks(record.allowed_ips),
            refresh_at_s=now_s + believed_for_s - self._cache_s * (1 - _FRESH_SHARE),
            believed_until_s=now_s + believed_for_s,
        )

    def _refuse(self, code: str, source: Source) -> ApiError:
        self._outcomes[source, code].inc()
        if code == "store_unavailable":
            return ApiError(code, retry_after_ms=_RETRY_AFTER_S * 1000, headers={"Retry-After": str(_RETRY_AFTER_S)})
        return ApiError(code, headers=_challenge(code))


def _key_in(authorization: str | None) -> str | None:
    """The key in `Bearer KEY` or `Api-Key KEY`, or None when the header is absent, of another scheme, or empty."""
    scheme, _, key = (authorization or "").strip().partition(" ")
    return key.strip() or None if scheme.lower() in _SCHEMES else None


def _challenge(code: str) -> dict[str, str]:
    """RFC 9110 asks for it on every 401, RFC 6750 for the error when there was a token."""
    if ERRORS[code].status != 401:
        return {}
    return {"WWW-Authenticate": "Bearer" if code == "missing_key" else 'Bearer error="invalid_token"'}
