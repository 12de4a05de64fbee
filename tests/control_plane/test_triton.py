"""The gRPC client against a real gRPC server that behaves as Triton was measured to behave, and against the real Triton."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from control_plane.policies.catalogue import load_catalogue
from control_plane.policies.tensors import action_of, canary_inputs
from control_plane.triton import GrpcTriton, Tensor, TritonCall, TritonError, TritonFault
from tests.conftest import free_port
from tests.control_plane.fakes import ROOT

Behaviour = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]
TENSOR = Tensor(name="image", datatype="UINT8", shape=(1, 2), data=b"\x01\x02")


def call(**changes: Any) -> TritonCall:
    facts: dict[str, Any] = {
        "model": "tabletop",
        "version": 3,
        "request_id": "inf_1",
        "inputs": (TENSOR,),
        "outputs": ("action",),
        "timeout_s": 5.0,
        "priority": 1,
    }
    return TritonCall(**{**facts, **changes})


@asynccontextmanager
async def triton_that(behaves: Behaviour, *, port: int = 0) -> AsyncIterator[str]:
    """A gRPC server with Triton's one method; gives its address."""
    method = grpc.unary_unary_rpc_method_handler(
        behaves,
        request_deserializer=service_pb2.ModelInferRequest.FromString,
        response_serializer=service_pb2.ModelInferResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": method})]
    )
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def failing(code: grpc.StatusCode, details: str) -> Behaviour:
    async def behave(_request: Any, context: grpc.aio.ServicerContext) -> Any:
        await context.abort(code, details)

    return behave


async def echo(request: Any, _context: grpc.aio.ServicerContext) -> Any:
    answer = service_pb2.ModelInferResponse(model_name=request.model_name)
    answer.outputs.add(name="action", datatype="FP32", shape=[1, 2])
    answer.raw_output_contents.append(np.array([1.5, -2.0], np.float32).tobytes())
    return answer


async def fault_of(address: str, asked: TritonCall) -> TritonFault:
    triton = GrpcTriton(address)
    try:
        with pytest.raises(TritonError) as caught:
            await triton.infer(asked)
        return caught.value.fault
    finally:
        await triton.close()


async def test_tensors_go_and_come_with_name_type_and_shape() -> None:
    seen: list[Any] = []

    async def behave(request: Any, context: grpc.aio.ServicerContext) -> Any:
        seen.append(request)
        return await echo(request, context)

    async with triton_that(behave) as address:
        triton = GrpcTriton(address)
        outputs = await triton.infer(call())
        await triton.close()
    (request,) = seen
    assert (request.model_name, request.model_version, request.id) == ("tabletop", "3", "inf_1")
    assert (request.inputs[0].name, request.inputs[0].datatype, list(request.inputs[0].shape)) == ("image", "UINT8", [1, 2])
    assert list(request.raw_input_contents) == [b"\x01\x02"]
    assert [output.name for output in request.outputs] == ["action"]
    assert request.parameters["timeout"].int64_param == 5_000_000
    assert request.parameters["priority"].uint64_param == 1
    assert outputs["action"] == Tensor(
        name="action", datatype="FP32", shape=(1, 2), data=np.array([1.5, -2.0], np.float32).tobytes()
    )


@pytest.mark.parametrize(
    ("code", "details", "fault"),
    [
        (grpc.StatusCode.UNAVAILABLE, "[request id: x] Exceeds maximum queue size", TritonFault.QUEUE_FULL),
        (grpc.StatusCode.UNAVAILABLE, "Request timeout expired", TritonFault.TOO_LATE),
        (grpc.StatusCode.UNAVAILABLE, "Server is stopping, scheduler for model has stopped accepting", TritonFault.UNAVAILABLE),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'tabletop' has no available versions", TritonFault.NOT_LOADED),
        (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape for input 'image'", TritonFault.BAD_REQUEST),
        (grpc.StatusCode.INTERNAL, "Traceback: /srv/models/model.py", TritonFault.FAILED),
        (grpc.StatusCode.UNKNOWN, "", TritonFault.FAILED),
        (grpc.StatusCode.CANCELLED, "GRPC server is shutting down", TritonFault.UNAVAILABLE),
    ],
)
async def test_each_way_triton_fails_is_told_apart(code: grpc.StatusCode, details: str, fault: TritonFault) -> None:
    async with triton_that(failing(code, details)) as address:
        assert await fault_of(address, call()) is fault


@pytest.mark.parametrize(
    ("code", "details", "was_dispatched"),
    [
        (
            grpc.StatusCode.UNAVAILABLE,
            "Server is stopping, scheduler for model has stopped accepting new inference requests",
            False,
        ),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'tabletop' has no available versions", False),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", True),
        (grpc.StatusCode.CANCELLED, "GRPC server is shutting down", True),
        (grpc.StatusCode.INTERNAL, "Traceback", True),
    ],
)
async def test_only_what_surely_reached_no_model_is_called_so(code: grpc.StatusCode, details: str, was_dispatched: bool) -> None:
    async with triton_that(failing(code, details)) as address:
        triton = GrpcTriton(address)
        with pytest.raises(TritonError) as caught:
            await triton.infer(call())
        await triton.close()
    assert caught.value.was_dispatched is was_dispatched


async def test_a_triton_that_hangs_is_too_late_by_our_own_clock() -> None:
    async def hang(_request: Any, _context: grpc.aio.ServicerContext) -> Any:
        await asyncio.Event().wait()

    async with triton_that(hang) as address:
        assert await fault_of(address, call(timeout_s=0.05)) is TritonFault.TOO_LATE


async def test_nobody_listening_is_unavailable() -> None:
    assert await fault_of(f"127.0.0.1:{free_port().number}", call()) is TritonFault.UNAVAILABLE


async def test_a_triton_that_comes_back_is_found_again() -> None:
    port = free_port().number
    triton = GrpcTriton(f"127.0.0.1:{port}")
    async with triton_that(echo, port=port):
        await triton.infer(call())
    with pytest.raises(TritonError):
        await triton.infer(call())
    async with triton_that(echo, port=port):
        for _ in range(100):
            try:
                await triton.infer(call())
                break
            except TritonError:
                await asyncio.sleep(0.05)
        else:
            pytest.fail("the channel did not recover")
    await triton.close()


async def test_a_cancelled_call_is_cancelled_at_triton() -> None:
    reached, left = asyncio.Event(), asyncio.Event()

    async def hang(_request: Any, _context: grpc.aio.ServicerContext) -> Any:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    async with triton_that(hang) as address:
        triton = GrpcTriton(address)
        task = asyncio.create_task(_infer(triton))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await left.wait()
        await triton.close()


async def _infer(triton: GrpcTriton) -> None:
    await triton.infer(call())


async def test_the_real_triton_answers_the_shipped_policy(triton_url: str) -> None:
    manifest = load_catalogue(ROOT / "model_repository", default="tabletop").policies["tabletop"].manifest
    triton = GrpcTriton(triton_url)
    outputs = await triton.infer(call(version=manifest.version, inputs=canary_inputs(manifest)))
    assert action_of(manifest, outputs).shape == (manifest.action.horizon, len(manifest.action.names))
    await triton.close()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"model": "nobody"}, TritonFault.NOT_LOADED),
        ({"version": 99}, TritonFault.NOT_LOADED),
        ({"inputs": (TENSOR,)}, TritonFault.BAD_REQUEST),
    ],
)
async def test_the_real_tritons_refusals_are_told_apart(triton_url: str, changes: dict[str, Any], fault: TritonFault) -> None:
    manifest = load_catalogue(ROOT / "model_repository", default="tabletop").policies["tabletop"].manifest
    asked = {"version": manifest.version, "inputs": canary_inputs(manifest), **changes}
    assert await fault_of(triton_url, call(**asked)) is fault
