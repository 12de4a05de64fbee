"""One policy behind one Triton over gRPC: golden vectors as ready bytes, sent with as little work of our own as Python allows.

What its queue refuses is an outcome; everything else that goes wrong ends the benchmark, in words. Knows no load.
"""

import itertools
import time
from collections.abc import Iterator

import grpc
import grpc.aio
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype

from export.benchmark.counters import Counters, counters_of
from export.benchmark.failure import BadRange, TritonFailed
from export.benchmark.load import Answer
from export.contract.manifest import Manifest
from export.parity import Arrays

TIMEOUT_S = 30.0
ASK_TIMEOUT_S = 5.0
DISTINCT = 64  # requests; more pictures change nothing that is measured
_REFUSALS = {"maximum queue size": "queue full", "timeout expired": "late in the queue"}
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class Served:
    """A policy at an address. `open` it inside the event loop that uses it."""

    def __init__(self, address: str, manifest: Manifest) -> None:
        self.address, self._manifest = address, manifest
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._infer = self._channel.unary_unary(_INFER)  # no (de)serialisers: bytes in, bytes out
        self._bodies: Iterator[bytes] = iter(())

    async def open(self, examples: Arrays, batch: int) -> str:
        """Prepares requests of `batch` examples and returns Triton's version. Raises TritonFailed or BadRange."""
        name, version = self._manifest.policy, str(self._manifest.version)
        try:
            server = await self._stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=ASK_TIMEOUT_S)
            config = await self._stub.ModelConfig(
                service_pb2.ModelConfigRequest(name=name, version=version), timeout=ASK_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            raise self._failed(error) from None
        largest = max(1, config.config.max_batch_size)
        if not 1 <= batch <= largest:
            raise BadRange(f"batch size {batch}: {name} takes 1 to {largest}")
        self._bodies = itertools.cycle(bodies(self._manifest, examples, batch))
        return str(server.version)

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def send(self) -> Answer:
        """One request. Raises TritonFailed, but not where the queue refused it."""
        sent_s = time.perf_counter()
        call = self._infer(next(self._bodies), timeout=TIMEOUT_S)
        handed_s = time.perf_counter()
        try:
            data = await call
        except grpc.aio.AioRpcError as error:
            now_s = time.perf_counter()
            return Answer(sent_s, handed_s, now_s, now_s, self._refusal(error))
        answered_s = time.perf_counter()
        answer = service_pb2.ModelInferResponse.FromString(data)
        if not all(answer.raw_output_contents) or not answer.raw_output_contents:
            raise TritonFailed(f"Triton at {self.address} answers with empty tensors (numpy 2 in its environment does that)")
        return Answer(sent_s, handed_s, answered_s, time.perf_counter(), None)

    async def counters(self) -> Counters:
        """Triton's statistics of this policy now. Raises TritonFailed."""
        request = service_pb2.ModelStatisticsRequest(name=self._manifest.policy, version=str(self._manifest.version))
        try:
            answer = await self._stub.ModelStatistics(request, timeout=ASK_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise self._failed(error) from None
        return counters_of(answer.model_stats[0])

    def _refusal(self, error: grpc.aio.AioRpcError) -> str:
        """Why Triton's queue did not take the request. Raises TritonFailed for everything else."""
        details = error.details() or ""
        for words, reason in _REFUSALS.items():
            if error.code() is grpc.StatusCode.UNAVAILABLE and words in details:
                return reason
        raise self._failed(error)

    def _failed(self, error: grpc.aio.AioRpcError) -> TritonFailed:
        code, said = error.code().name, (error.details() or "no reason given").splitlines()[0]
        if code in {"UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "UNIMPLEMENTED"}:  # cancelled: a server that stops does it
            return TritonFailed(f"no Triton answers gRPC at {self.address} ({code}: {said[:200]})")
        if code == "NOT_FOUND":
            return TritonFailed(
                f"Triton at {self.address} does not serve {self._manifest.policy} {self._manifest.version}: {said}"
            )
        return TritonFailed(f"Triton at {self.address}: {code}: {said[:300]}")


def bodies(manifest: Manifest, examples: Arrays, batch: int) -> tuple[bytes, ...]:
    """Requests as bytes, `batch` examples each, taken in turn and around the corner."""
    count = len(next(iter(examples.values())))
    rows = [np.arange(start, start + batch) % count for start in range(min(count, DISTINCT))]
    return tuple(_body(manifest, {name: values[row] for name, values in examples.items()}) for row in rows)


def _body(manifest: Manifest, arrays: Arrays) -> bytes:
    tensor = service_pb2.ModelInferRequest.InferInputTensor
    request = service_pb2.ModelInferRequest(
        model_name=manifest.policy,
        model_version=str(manifest.version),
        inputs=[tensor(name=name, datatype=np_to_triton_dtype(value.dtype), shape=value.shape) for name, value in arrays.items()],
        raw_input_contents=[np.ascontiguousarray(value).tobytes() for value in arrays.values()],
    )
    return bytes(request.SerializeToString())
