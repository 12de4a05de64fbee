"""`GET` and `PUT /v1/safety/settings`: a customer's own layer of the action guard, with their own key.

A change counts as one request of the minute (or a loop could fill the history), but not of day and month, which are reconciled
with usage. It is in the history under the key's id, and every API process hears of it within a second. What only an operator may
choose is shown, not changed, here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response
from structlog.typing import FilteringBoundLogger

from control_plane.audit.record import By
from control_plane.db import DatabaseAwayError
from control_plane.errors import ApiError
from control_plane.guarding.fields import Settings, thresholds_of
from control_plane.guarding.verbs import Changed, Content, Stored, Wish, change_settings, read_settings
from control_plane.identity.principal import Principal, unbilled
from control_plane.identity.public_id import public_id
from control_plane.identity.scope import require_unrestricted
from control_plane.inference.body import BodyLimits, read_body
from control_plane.inference.fields import complaints
from control_plane.inference.seams import Limiter
from control_plane.keys.verbs import Stores
from control_plane.policies.routes import Authenticate
from control_plane.protocols.doorway import trace_of
from control_plane.redis import REDIS_AWAY, Commands
from safety.profile import Preset, RobotProfile

PATH = "/v1/safety/settings"
_BODY_BYTES_MAX = 128_000
_LEASE_MS = 10_000


class SettingsChange(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body of a PUT: everything that shall hold. With `version`, only if that one still holds."""

    settings: Settings
    version: Annotated[int, Meta(ge=0)] | None = None


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Which thresholds an operator has put in."""

    model: str
    robot_type: str


class SettingsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer. `version` 0: never set."""

    version: int
    changed_by: str | None
    changed_at: datetime | None
    preset: str
    calibrations: tuple[Calibration, ...]
    settings: Settings
    is_announced: bool | UnsetType = UNSET


_DECODER = msgspec.json.Decoder(SettingsChange)


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetySettings:
    """The endpoints."""

    stores: Stores
    limiter: Limiter
    authenticate: Authenticate
    profiles: Mapping[str, RobotProfile]
    preset: Preset
    log: FilteringBoundLogger

    async def serve(self, request: Request) -> Response:
        """By method, because one address has one route."""
        return await (self.change(request) if request.method == "PUT" else self.show(request))

    async def show(self, request: Request) -> Response:
        """What holds for the customer of this key."""
        principal = await self.authenticate(request.headers.get("authorization"))
        with _database():
            stored = await read_settings(self.stores.engine, principal.customer_id)
        return self._answer(stored)

    async def change(self, request: Request) -> Response:
        """Puts the settings of the body in the place of what holds. Raises invalid_safety, settings_changed."""
        principal = await self.authenticate(request.headers.get("authorization"))
        require_unrestricted(principal)
        trace = trace_of(request.scope)
        trace.customer_id = principal.customer_id
        admission = await self.limiter.admit(unbilled(principal), trace.public_id, _LEASE_MS)
        try:
            changed = await self._change(request, principal)
        except ApiError as error:
            error.headers.update(admission.headers())
            raise
        finally:
            await _settle(self.stores.redis, admission.settle_minute_into)
        self.log.info("safety_settings_changed", request_id=trace.public_id, version=changed.stored.version)
        answer = self._answer(changed.stored, is_announced=changed.is_announced)
        answer.headers.update(admission.headers())
        return answer

    async def _change(self, request: Request, principal: Principal) -> Changed:
        limits = BodyLimits(max_bytes=_BODY_BYTES_MAX, timeout_s=_LEASE_MS / 1e3)
        body = await read_body(request.receive, dict(request.scope["headers"]), limits)
        with complaints("JSON"):
            wanted = _DECODER.decode(body)
        if wanted.settings.calibrations is not None:
            raise ApiError("invalid_safety", "Calibrations are put in by an operator.", param="settings.calibrations")

        def edit(old: Content) -> Content:
            return Content(settings=replace(wanted.settings, calibrations=old.settings.calibrations), preset=old.preset)

        key = public_id("key", principal.key_id)
        wish = Wish(by=key, edit=edit, expected_version=wanted.version)
        by = By(actor=f"key {key}", request_id=trace_of(request.scope).public_id)
        stores = Stores(engine=self.stores.engine, redis=self.stores.redis, pepper=self.stores.pepper, by=by)
        with _database():
            return await change_settings(stores, principal.customer_id, wish, profiles=self.profiles, preset=self.preset)

    def _answer(self, stored: Stored, *, is_announced: bool | UnsetType = UNSET) -> Response:
        settings = stored.content.settings
        fitted = thresholds_of(settings, path="settings")
        report = SettingsReport(
            version=stored.version,
            changed_by=stored.changed_by,
            changed_at=stored.changed_at,
            preset=(stored.content.preset or self.preset).value,
            calibrations=tuple(Calibration(model=one.policy, robot_type=one.robot_type) for one in fitted),
            settings=replace(settings, calibrations=None),
            is_announced=is_announced,
        )
        return Response(msgspec.json.encode(report), media_type="application/json")


@contextmanager
def _database() -> Iterator[None]:
    try:
        yield
    except DatabaseAwayError:
        message = "The settings cannot be reached at present."
        raise ApiError("store_unavailable", message, retry_after_ms=1000) from None


async def _settle(redis: Redis, settle_into: Commands) -> None:
    """Frees the place. If Redis is away it frees itself when its lease ends."""
    pipeline = redis.pipeline(transaction=False)
    settle_into(pipeline)
    try:
        await pipeline.execute(raise_on_error=False)
    except REDIS_AWAY:
        return
