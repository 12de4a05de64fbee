"""The web application over neighbours that a test can make misbehave: one fake per seam, the real everything else.

The fakes hold real values (tensors, principals, events), so what passes through them is what passes in production.
"""

import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec
import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image

from billing.tiers import Tier
from control_plane.db import create_engine
from control_plane.drain import Drain
from control_plane.errors import ApiError
from control_plane.guarding.fields import Settings as Limits
from control_plane.guarding.guards import Checker, GuardsInForce
from control_plane.identity.data_policy import STANDARD_TERMS, ZERO_TERMS
from control_plane.identity.principal import CustomerSafety, Principal, RateLimits
from control_plane.inference.body import BodyLimits
from control_plane.inference.contract import Contract
from control_plane.inference.dry_run import DryRun
from control_plane.inference.fair_queue import FairQueue
from control_plane.inference.guard import Guards
from control_plane.inference.in_flight import InFlight
from control_plane.inference.infer import Inference
from control_plane.inference.pipeline import Pipeline
from control_plane.inference.preprocess import Preprocessor
from control_plane.inference.seams import Commands
from control_plane.keys.verbs import Stores
from control_plane.limits.limiter import Beside
from control_plane.logs import create_log
from control_plane.mail.letters import letterhead_of
from control_plane.metrics import Metrics, create_metrics
from control_plane.policies.catalogue import Catalogue, load_catalogue
from control_plane.policies.offer import Offer
from control_plane.policies.readiness import Canary
from control_plane.policies.routes import ModelList
from control_plane.policies.standing import Standing
from control_plane.protocols.application import Doors, assemble
from control_plane.protocols.desk import Desk
from control_plane.protocols.operations import Operations
from control_plane.protocols.robots import RobotList
from control_plane.protocols.safety_settings import SafetySettings
from control_plane.redis import create_redis
from control_plane.triton import Tensor, TritonCall
from control_plane.usage.event import UsageEvent
from safety.profile import Preset

ROOT = Path(__file__).resolve().parents[2]
KEY = "Bearer a-key-that-the-fake-knows"
STILL: NDArray[np.float32] = np.zeros((8, 7), np.float32)


def principal(*, tier: Tier = Tier.PRO, is_zero_retention: bool = False, safety: CustomerSafety | None = None) -> Principal:
    """A customer with room to spare."""
    return Principal(
        customer_id=UUID(int=1),
        key_id=UUID(int=2),
        company_name="Acme Robotics",
        tier=tier,
        limits=RateLimits(per_minute=100, per_day=10_000, per_month=100_000, concurrency=64),
        key_per_minute=None,
        data=ZERO_TERMS if is_zero_retention else STANDARD_TERMS,
        safety=safety,
    )


@dataclass
class FakeAuthenticator:
    """Knows one key."""

    holder: Principal = field(default_factory=principal)

    async def authenticate(self, authorization: str | None) -> Principal:
        if authorization is None:
            raise ApiError("missing_key")
        if authorization != KEY:
            raise ApiError("unknown_key")
        return self.holder


@dataclass
class FakeLimiter:
    """Admits everything and remembers how each request ended."""

    endings: list[str] = field(default_factory=list)
    refusal: ApiError | None = None

    async def admit(
        self,
        principal: Principal,  # noqa: ARG002 -- the seam's signature
        lease_id: str,
        lease_ms: int,
        *,
        beside: Beside | None = None,  # noqa: ARG002 -- as above: there is no Redis, so nothing is remembered
    ) -> "FakeAdmission":
        if self.refusal is not None:
            raise self.refusal
        assert lease_id.startswith("inf_")
        assert lease_ms > 0
        return FakeAdmission(endings=self.endings)


@dataclass
class FakeAdmission:
    """Ninety-nine left of each."""

    endings: list[str]
    remaining_minute: int | None = 99
    remaining_day: int | None = 9_999
    remaining_month: int | None = None

    def headers(self) -> Mapping[str, str]:
        return {"RateLimit": '"minute";r=99;t=1'}

    def settle_into(self, pipeline: Any) -> None:  # noqa: ARG002 -- as above
        self.endings.append("settled")

    def settle_unbilled_into(self, pipeline: Any) -> None:  # noqa: ARG002 -- as above
        self.endings.append("settled")

    def settle_minute_into(self, pipeline: Any) -> None:  # noqa: ARG002 -- as above
        self.endings.append("settled")

    def give_back_into(self, pipeline: Any) -> None:  # noqa: ARG002 -- as above
        self.endings.append("given back")


@dataclass
class FakeJournal:
    """Keeps the events; `before` runs first and may wait or raise."""

    events: list[UsageEvent] = field(default_factory=list)
    before: Callable[[UsageEvent], Awaitable[None]] | None = None

    async def record(self, event: UsageEvent, *, together_with: Commands) -> None:
        if self.before is not None:
            await self.before(event)
        msgspec.msgpack.encode(event)
        self.events.append(event)
        together_with(None)  # type: ignore[arg-type]  # the fake admission asks nothing of Redis


@dataclass
class FakeTriton:
    """Answers with `action`; `before` runs first and may wait or raise; `answer` replaces the whole answer."""

    action: NDArray[np.float32] = field(default_factory=lambda: STILL)
    before: Callable[[TritonCall], Awaitable[None]] | None = None
    answer: Mapping[str, Tensor] | None = None
    calls: list[TritonCall] = field(default_factory=list)

    async def infer(self, call: TritonCall) -> Mapping[str, Tensor]:
        self.calls.append(call)
        if self.before is not None:
            await self.before(call)
        if self.answer is not None:
            return self.answer
        shape = (1, *self.action.shape)
        return {"action": Tensor(name="action", datatype="FP32", shape=shape, data=self.action.tobytes())}

    async def close(self) -> None:
        """There is nothing to close."""


@dataclass(kw_only=True)
class House:
    """Every neighbour of one application; change one before `app()` is asked for."""

    authenticator: FakeAuthenticator = field(default_factory=FakeAuthenticator)
    limiter: FakeLimiter = field(default_factory=FakeLimiter)
    journal: FakeJournal = field(default_factory=FakeJournal)
    triton: FakeTriton = field(default_factory=FakeTriton)
    catalogue: Catalogue = field(default_factory=lambda: load_catalogue(ROOT / "model_repository", default="tabletop"))
    standing: Standing = field(default_factory=Standing)
    guard: Checker | None = None  # in place of every guard
    deployment: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=create_metrics)
    body_limits: BodyLimits = field(default_factory=lambda: BodyLimits(max_bytes=1_000_000, timeout_s=5.0))
    stores: dict[str, bool] = field(default_factory=lambda: {"redis": True, "postgres": True})
    drain: Drain = field(default_factory=Drain)
    max_in_flight: int = 8
    socket_idle_s: float = 600.0
    max_pixels: int = 1_000_000
    log_stream: io.BytesIO = field(default_factory=io.BytesIO)

    @property
    def offer(self) -> Offer:
        """What is offered to whom."""
        return Offer(catalogue=self.catalogue, standing=self.standing)

    def pipeline(self) -> Pipeline:
        """The pipeline over these neighbours."""
        log = create_log("debug", self.log_stream)
        if self.guard is None and self.deployment.is_empty:
            in_force = _usual_guards()
        else:
            in_force = GuardsInForce(catalogue=self.catalogue, preset=Preset.REDUCED, deployment=self.deployment)
        if self.guard is not None:
            in_force.base = {pair: replace(found, guard=self.guard) for pair, found in in_force.base.items()}
        return Pipeline(
            in_flight=InFlight(limit=self.max_in_flight, gauge=self.metrics.tallies.count(self.metrics.in_flight)),
            authenticator=self.authenticator,
            limiter=self.limiter,
            contract=Contract(offer=self.offer, default_robot="franka_panda"),
            preprocessor=Preprocessor(threads=2, max_pixels=self.max_pixels),
            fair_queue=FairQueue(slots=lambda: 16, metrics=self.metrics.fleet),
            inference=Inference(triton=self.triton, faults=self.metrics.triton_errors, log=log),
            guards=Guards(in_force=in_force, metrics=self.metrics, log=log),
            journal=self.journal,
            log=log,
            default_deadline_ms=2000,
        )

    def dry_run(self, pipeline: Pipeline) -> DryRun:
        """The dry run over the same neighbours."""
        return DryRun(
            in_flight=pipeline.in_flight,
            authenticator=self.authenticator,
            limiter=self.limiter,
            offer=self.offer,
            guards=pipeline.guards,
            journal=self.journal,
            log=pipeline.log,
            default_robot="franka_panda",
            time_limit_s=5.0,
        )

    def stores_of_settings(self) -> Stores:
        """Nothing is there: what reads or writes settings is tested over real servers."""
        away = create_engine("postgresql://nobody:x@127.0.0.1:1/none", timeout_s=0.5)
        return Stores(engine=away, redis=create_redis("redis://127.0.0.1:1/0", timeout_s=0.5), pepper=b"")

    def canary(self, *, fresh_s: float) -> Canary:
        """The canary over these neighbours."""
        return Canary(triton=self.triton, offer=self.offer, fresh_s=fresh_s)

    def app(self) -> FastAPI:
        """The application, with the middleware of production."""
        pipeline = self.pipeline()
        canary = self.canary(fresh_s=0.0)

        async def probe(name: str) -> bool:
            return self.stores[name]

        settings = SafetySettings(
            stores=self.stores_of_settings(),
            limiter=self.limiter,
            authenticate=self.authenticator.authenticate,
            profiles=pipeline.guards.in_force.profiles,
            preset=Preset.REDUCED,
            log=pipeline.log,
        )
        doors = Doors(
            robots=RobotList(
                offer=self.offer,
                profiles=pipeline.guards.in_force.profiles,
                authenticate=self.authenticator.authenticate,
            ),
            safety_settings=settings,
            dry_run=self.dry_run(pipeline),
            desk=Desk(
                stores=settings.stores,
                letterhead=letterhead_of(public_url="https://api.example.com", docs_url=None, operator_email=None),
                authenticate=self.authenticator.authenticate,
            ),
            pipeline=pipeline,
            body_limits=self.body_limits,
            models=ModelList(offer=self.offer, canary=canary, authenticate=self.authenticator.authenticate),
            operations=Operations(
                canary=canary,
                probes={name: partial(probe, name) for name in self.stores},
                metrics=self.metrics,
                drain=self.drain,
            ),
            metrics=self.metrics,
            log=create_log("debug", self.log_stream),
            public_url="https://api.example.com",
            socket_idle_s=self.socket_idle_s,
        )
        return assemble(doors, lifespan=_closing(pipeline))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the running application, with a good key."""
        app = self.app()
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, raise_app_exceptions=True)
            headers = {"Authorization": KEY}
            async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
                yield client

    def logs(self) -> str:
        """Everything logged so far."""
        return self.log_stream.getvalue().decode()


@cache
def _usual_guards() -> GuardsInForce:
    """Guards keep nothing of a request, so all houses may share them."""
    return GuardsInForce(catalogue=load_catalogue(ROOT / "model_repository", default="tabletop"), preset=Preset.REDUCED)


def _closing(pipeline: Pipeline) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        pipeline.preprocessor.close()

    return lifespan


def picture(*, size: tuple[int, int] = (64, 48), form: str = "JPEG", mode: str = "RGB", **options: Any) -> bytes:
    """An encoded picture of a colour gradient."""
    width, height = size
    ramp = np.linspace(0, 255, width, dtype=np.uint8)[None, :].repeat(height, 0)
    image = Image.fromarray(np.stack([ramp, ramp[::-1], np.full_like(ramp, 128)], axis=-1)).convert(mode)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()
