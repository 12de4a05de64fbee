"""Who was first under an Idempotency-Key, and what they were answered: kept in Redis, sealed, for as long as it is of use.

The key itself is stored nowhere: a claim's name is its HMAC, and the answer is sealed under the pepper and the key together, so
that neither Redis nor its file can be read without a caller who brings the key. Raises one of REDIS_AWAY. Knows no HTTP.
"""

import hmac
import secrets
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import cast
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from control_plane.sealed import SealBrokenError, seal, unseal

_CLAIM, _FINISH, _RELEASE = (Path(__file__).with_name(f"{verb}.lua").read_text() for verb in ("claim", "finish", "release"))
_PURPOSE = "idempotent answer"


class Found(StrEnum):
    """What a claim came upon."""

    NEW = "new"
    AGAIN = "again"  # the first attempt never ended; this one goes on under its request id
    OTHER = "other"  # another request has this key
    RUNNING = "running"
    ANSWERED = "answered"
    GONE = "gone"  # answered, and the answer is no longer kept
    UNKNOWN = "unknown"  # the first attempt never ended, and must not be made again


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How long one attempt, its answer (0: not at all) and the memory of it last. `may_rerun`: after one that never ended."""

    attempt_ms: int
    kept_ms: int
    remembered_ms: int
    may_rerun: bool


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as it is given again: byte for byte."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One attempt's hold on a key. `request_id` is the first attempt's; `wait_ms` until a running one must have ended."""

    found: Found
    request_id: UUID
    attempt: bytes
    names: tuple[bytes, bytes]
    secret: bytes
    answer: Kept | None = None
    wait_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """All claims of this service."""

    redis: Redis
    pepper: bytes
    max_answer_bytes: int = 256_000

    async def claim(self, owner: str, route: str, key: str, *, print_: bytes, request_id: UUID, keeping: Keeping) -> Claim:
        """Takes the key for this attempt, or says what became of the first. Scoped to owner and route."""
        names = self._names(owner, route, key)
        attempt = secrets.token_bytes(12)
        arguments = (print_, request_id.bytes, attempt, keeping.attempt_ms, keeping.remembered_ms, int(keeping.may_rerun))
        reply = await self.redis.eval(_CLAIM, 2, *names, *arguments)
        found, id_, more = cast(tuple[bytes, bytes, bytes | int], reply)
        claim = Claim(
            found=Found(found.decode()),
            request_id=UUID(bytes=id_),
            attempt=attempt,
            names=names,
            secret=hmac.digest(self.pepper, b"idempotency\0" + key.encode(), "sha256"),
            wait_ms=more if isinstance(more, int) else 0,
        )
        return self._opened(claim, more) if isinstance(more, bytes) else claim

    async def finish(self, claim: Claim, answer: Kept, keeping: Keeping) -> None:
        """Keeps the answer, if it may be and is not too large; remembers that there was one either way."""
        data = msgspec.msgpack.encode(answer)
        sealed = b""
        if keeping.kept_ms and len(data) <= self.max_answer_bytes:
            sealed = seal(data.decode("latin-1"), pepper=claim.secret, purpose=_PURPOSE, about=claim.names[1])
        await self.redis.eval(_FINISH, 2, *claim.names, claim.attempt, sealed, keeping.kept_ms, keeping.remembered_ms)

    async def release(self, claim: Claim, *, keeps_id: bool) -> None:
        """The attempt ended without an answer. `keeps_id`: it may have been billed, so the next one gets its request id."""
        await self.redis.eval(_RELEASE, 1, claim.names[0], claim.attempt, int(keeps_id))

    def _names(self, owner: str, route: str, key: str) -> tuple[bytes, bytes]:
        digest = hmac.digest(self.pepper, "\0".join((owner, route, key)).encode(), "sha256")[:16].hex()
        name = f"vla:idempotency:{{{owner}}}:{digest}".encode()
        return name, name + b":answer"

    def _opened(self, claim: Claim, sealed: bytes) -> Claim:
        try:
            text = unseal(sealed, pepper=claim.secret, purpose=_PURPOSE, about=claim.names[1])
            answer = msgspec.msgpack.decode(text.encode("latin-1"), type=Kept)
        except (SealBrokenError, msgspec.DecodeError):  # of another release, or damaged: as good as gone
            return replace(claim, found=Found.GONE)
        return replace(claim, answer=answer)
