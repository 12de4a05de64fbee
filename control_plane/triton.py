"""NVIDIA Triton over gRPC: one long-lived connection per process and server, tensors in, tensors out, failures as six kinds.

`GrpcTriton` sends tritonclient's generated protobufs by `unary_grpc`; a failure also says whether the request can have begun
there. It knows no manifest and no HTTP; `Triton` is the seam behind which several replicas or a fake stand.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any, Protocol

from google.protobuf.message import DecodeError
from msgspec import Struct
from tritonclient.grpc import service_pb2

from control_plane.unary_grpc.channel import Channel
from control_plane.unary_grpc.connection import CallFailedError, Status

_INFER = "/inference.GRPCInferenceService/ModelInfer"
_RAW_INPUT = b"\x3a"  # the field `raw_input_contents` of ModelInferRequest, as bytes of a known length
_REMEMBERED = 512  # kinds of calls, and lengths of tensors: a few for each policy

_Form = tuple[tuple[str, str, tuple[int, ...]], ...]  # name, datatype and shape of each input


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


class Tensor(Struct, frozen=True, kw_only=True):
    """A named array as it travels: Triton datatype ("UINT8", "FP32", "INT64"), shape, C-order little-endian bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


class TritonCall(Struct, frozen=True, kw_only=True):
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
        """Raises AddressError."""
        self._channel = Channel(address, _INFER)

    async def infer(self, call: TritonCall) -> Mapping[str, Tensor]:
        """The server's own timeout only looks twice a second, so the client's runs beside it. Raises TritonError."""
        try:
            answer = await self._channel.ask(_request(call), call.timeout_s)
            return _tensors(service_pb2.ModelInferResponse.FromString(answer))
        except CallFailedError as error:
            raise TritonError(_fault(error), error.details, was_dispatched=_was_dispatched(error)) from None
        except DecodeError:
            raise TritonError(TritonFault.FAILED, "an answer that is no ModelInferResponse") from None

    async def close(self) -> None:
        """Ends the connection; calls in flight fail."""
        await self._channel.close()


def _request(call: TritonCall) -> list[bytes | memoryview]:
    """A ModelInferRequest in parts. The tensors' bytes are not copied into a message first: a picture is all there is to it."""
    request = service_pb2.ModelInferRequest(id=call.request_id)
    request.parameters["timeout"].int64_param = max(1, int(call.timeout_s * 1e6))
    request.parameters["priority"].uint64_param = call.priority
    form = tuple([(tensor.name, tensor.datatype, tensor.shape) for tensor in call.inputs])
    parts: list[bytes | memoryview] = [_asked(call.model, call.version, form, call.outputs), request.SerializeToString()]
    for tensor in call.inputs:
        parts += (_raw_head(len(tensor.data)), tensor.data)
    return parts


@lru_cache(maxsize=_REMEMBERED)
def _asked(model: str, version: int, form: _Form, outputs: tuple[str, ...]) -> bytes:
    """What all calls of a policy have in common. Two messages behind each other are one with the fields of both."""
    request = service_pb2.ModelInferRequest(model_name=model, model_version=str(version))
    for name, datatype, shape in form:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
    for name in outputs:
        request.outputs.add(name=name)
    return bytes(request.SerializeToString())


@lru_cache(maxsize=_REMEMBERED)
def _raw_head(number: int) -> bytes:
    """What stands before so many bytes of a tensor. The length is protobuf's: seven bits a byte, the lowest first."""
    out = bytearray(_RAW_INPUT)
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _tensors(response: Any) -> dict[str, Tensor]:
    contents = response.raw_output_contents
    return {
        output.name: Tensor(name=output.name, datatype=output.datatype, shape=tuple(output.shape), data=data)
        for output, data in zip(response.outputs, contents, strict=False)
    }


_FAULTS = {
    Status.DEADLINE_EXCEEDED: TritonFault.TOO_LATE,
    Status.NOT_FOUND: TritonFault.NOT_LOADED,
    Status.INVALID_ARGUMENT: TritonFault.BAD_REQUEST,
    Status.CANCELLED: TritonFault.UNAVAILABLE,
}


def _fault(error: CallFailedError) -> TritonFault:
    """Triton says UNAVAILABLE for three different things, told apart by its text only (its scheduler_utils.cc)."""
    if error.status is not Status.UNAVAILABLE:
        return _FAULTS.get(error.status, TritonFault.FAILED)
    if "maximum queue size" in error.details:
        return TritonFault.QUEUE_FULL
    if "timeout expired" in error.details.lower():
        return TritonFault.TOO_LATE
    return TritonFault.UNAVAILABLE


_NOT_TAKEN = "has stopped accepting"  # said by a Triton that takes no more requests while it stops


def _was_dispatched(error: CallFailedError) -> bool:
    """A call that the connection knows was not seen, a model that is not there, a server that takes no more: not dispatched.

    Whatever else ends a call (a reset, a closed connection) may come after the request had arrived.
    """
    if not error.was_sent or error.status is Status.NOT_FOUND:
        return False
    return not (error.status is Status.UNAVAILABLE and _NOT_TAKEN in error.details)
