"""A gRPC server that speaks Triton's protocol and is as slow, full or silent as a test wants: what a real one rarely is on cue.

The real Triton is tested in `test_real_triton`. `delay_s` is asked once per request, in the order in which requests come.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

FULL = "Exceeds maximum queue size"


def at_once(_: int) -> float:
    return 0.0


@dataclass(slots=True, kw_only=True)
class SlowTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """`fails` gives (code, details) for a request that shall fail."""

    delay_s: Callable[[int], float] = at_once
    fails: Callable[[int], tuple[grpc.StatusCode, str] | None] = lambda _: None
    output: bytes = b"\0" * 224
    max_batch_size: int = 16
    asked: list[service_pb2.ModelInferRequest] = field(default_factory=list)
    address: str = ""

    async def ServerMetadata(self, _request: Any, _context: Any) -> Any:  # noqa: N802 -- the protocol's name
        return service_pb2.ServerMetadataResponse(name="triton", version="2.51.0")

    async def ModelConfig(self, _request: Any, _context: Any) -> Any:  # noqa: N802 -- the protocol's name
        answer = service_pb2.ModelConfigResponse()
        answer.config.max_batch_size = self.max_batch_size
        return answer

    async def ModelStatistics(self, request: Any, _context: Any) -> Any:  # noqa: N802 -- the protocol's name
        answer = service_pb2.ModelStatisticsResponse()
        one = answer.model_stats.add(name=request.name, inference_count=len(self.asked), execution_count=len(self.asked))
        one.inference_stats.success.count = len(self.asked)
        return answer

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the protocol's name
        number = len(self.asked)
        self.asked.append(request)
        await asyncio.sleep(self.delay_s(number))
        if (failure := self.fails(number)) is not None:
            await context.abort(*failure)
        return service_pb2.ModelInferResponse(raw_output_contents=[self.output])


@asynccontextmanager
async def serving(servicer: SlowTriton) -> AsyncIterator[grpc.aio.Server]:
    """Runs it on a free port of this machine; `servicer.address` says which."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield server
    finally:
        await server.stop(None)
