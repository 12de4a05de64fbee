"""NVIDIA Triton over gRPC: one long-lived channel per process, tensors in, tensors out, failures as six kinds.

`GrpcTriton` speaks tritonclient's generated protobufs on `grpc.aio` directly, a tenth less CPU than tritonclient's own wrapper.
A failure also says whether the request can have begun there. It knows no manifest and no HTTP; `Triton` is the seam behind which
several replicas or a fake stand.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import grpc
from tritonclient.grpc import service_pb2

_INFER = "/inference.GRPCInferenceService/ModelInfer"
_INT32_MAX = 2**31 - 1
_CONNECT_S = 0.5  # a host that swallows packets must not use up a whole deadline before another is asked

# A Triton that restarts must be found again within a second; gRPC's own default backs off to two minutes.
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", _INT32_MAX),
    ("grpc.max_receive_message_length", _INT32_MAX),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
)


class TritonFault(StrEnum):
    """Why a call failed, by what follows from it (each is a label of `vla_triton_errors`)."""

    QUEUE_FULL = "queue_full"
    TOO_LATE = "too_late"
    UNAVAILABLE = "unavailable"  # no connection, or it is shutting down
    NOT_LOADED = "not_loaded"  # the model or this version of it
    BAD_REQUEST = "bad_request"  # we built wrong tensors: our bug
    FAILED = "failed"  # the model raised


class TritonError(Exception):
    """A call that gave no tensors. The text is Triton's own and must stay inside (it can hold paths and tracebacks).

    `was_dispatched` is False only where it is certain that no model has seen the request; in doubt it is True.
    """

    def __init__(self, fault: TritonFault, details: str, *, was_dispatched: bool = True) -> None:
        self.fault = fault
        self.was_dispatched = was_dispatched
        super().__init__(f"{fault}: {details}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A named array as it travels: Triton datatype ("UINT8", "FP32", "INT64"), shape, C-order little-endian bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonCall:
    """One inference. `timeout_s` is what is left of the deadline; `priority` 1 goes before 2."""

    model: str
    version: int
    request_id: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    timeout_s: float
    priority: int


class Triton(Protocol):
    """Whatever answers a TritonCall: a server, several, or a fake."""

    async def infer(self, call: TritonCall) -> Mapping[str, Tensor]:
        """The output tensors by name. Raises TritonError."""

    async def close(self) -> None:
        """Ends its connections."""


class GrpcTriton:
    """The real thing. Connects at the first call, in the event loop that makes it; close it when the process ends."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.aio.Channel | None = None
        self._method: Any = None

    async def infer(self, call: TritonCall) -> Mapping[str, Tensor]:
        """The server's own timeout only looks twice a second, so the client's runs beside it. Raises TritonError."""
        channel = self._channel or self._open()
        if channel.get_state() is not grpc.ChannelConnectivity.READY:
            await _reach(channel, call.timeout_s)
        try:
            response = await self._method(_request(call), timeout=call.timeout_s)
        except grpc.aio.AioRpcError as error:
            details = error.details() or error.code().name
            raise TritonError(_fault(error), details, was_dispatched=_was_dispatched(error)) from None
        return _tensors(response)

    def _open(self) -> grpc.aio.Channel:
        channel = self._channel = grpc.aio.insecure_channel(self._address, options=_CHANNEL_OPTIONS)
        self._method = channel.unary_unary(
            _INFER,
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        return channel

    async def close(self) -> None:
        """Ends the connection; calls in flight are cancelled."""
        if self._channel is not None:
            await self._channel.close()


async def _reach(channel: grpc.aio.Channel, timeout_s: float) -> None:
    """Waits for a connection before anything is sent, so that a server that is not there has certainly seen nothing."""
    try:
        async with asyncio.timeout(min(timeout_s, _CONNECT_S)):
            while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                if state in _NO_CONNECTION:
                    raise TritonError(TritonFault.UNAVAILABLE, "no connection", was_dispatched=False)
                await channel.wait_for_state_change(state)
    except TimeoutError:
        fault = TritonFault.UNAVAILABLE if timeout_s > _CONNECT_S else TritonFault.TOO_LATE
        raise TritonError(fault, "no connection in time", was_dispatched=False) from None


_NO_CONNECTION = frozenset({grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN})


def _request(call: TritonCall) -> Any:
    request = service_pb2.ModelInferRequest(model_name=call.model, model_version=str(call.version), id=call.request_id)
    request.parameters["timeout"].int64_param = max(1, int(call.timeout_s * 1e6))
    request.parameters["priority"].uint64_param = call.priority
    for tensor in call.inputs:
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        request.raw_input_contents.append(tensor.data)
    for name in call.outputs:
        request.outputs.add(name=name)
    return request


def _tensors(response: Any) -> dict[str, Tensor]:
    contents = response.raw_output_contents
    return {
        output.name: Tensor(name=output.name, datatype=output.datatype, shape=tuple(output.shape), data=data)
        for output, data in zip(response.outputs, contents, strict=False)
    }


_FAULTS = {
    grpc.StatusCode.DEADLINE_EXCEEDED: TritonFault.TOO_LATE,
    grpc.StatusCode.NOT_FOUND: TritonFault.NOT_LOADED,
    grpc.StatusCode.INVALID_ARGUMENT: TritonFault.BAD_REQUEST,
    grpc.StatusCode.CANCELLED: TritonFault.UNAVAILABLE,
}


def _fault(error: grpc.aio.AioRpcError) -> TritonFault:
    """Triton says UNAVAILABLE for three different things, told apart by its text only (its scheduler_utils.cc)."""
    code, details = error.code(), error.details() or ""
    if code is not grpc.StatusCode.UNAVAILABLE:
        return _FAULTS.get(code, TritonFault.FAILED)
    if "maximum queue size" in details:
        return TritonFault.QUEUE_FULL
    if "timeout expired" in details.lower():
        return TritonFault.TOO_LATE
    return TritonFault.UNAVAILABLE


# What is said when no connection was there to send on, and by a Triton that takes no more requests while it stops. Everything
# else that ends a call (a reset, a closed socket, a GOAWAY) may come after the request had arrived.
_NEVER_SENT = "failed to connect to all addresses"
_NOT_TAKEN = "has stopped accepting"


def _was_dispatched(error: grpc.aio.AioRpcError) -> bool:
    """gRPC's core resends by itself what never left; what it then still cannot send fails with `_NEVER_SENT`."""
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.NOT_FOUND:
        return False
    return not (code is grpc.StatusCode.UNAVAILABLE and (details.startswith(_NEVER_SENT) or _NOT_TAKEN in details))
