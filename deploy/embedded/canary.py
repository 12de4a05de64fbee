"""Is an answer right, not only there? One inference of zeros per policy, its shape compared with the policy's manifest.

Health endpoints lie in two known ways: with numpy 2 the Python backend answers success with empty tensors, and before Triton
26.04 it stays "ready" while its Python process is dead (triton-inference-server/server#8604). Speaks Triton's HTTP on loopback.
"""

import json
import math
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from deploy.embedded.server import BusyError, NotReadyError, StartError
from export.contract.manifest import MANIFEST_FILE, load_manifest

_BYTES = {"BOOL": 1, "UINT8": 1, "INT8": 1, "INT16": 2, "FP16": 2, "INT32": 4, "FP32": 4, "INT64": 8, "FP64": 8}
_HEADER_LENGTH = "Inference-Header-Content-Length"

Shapes = Mapping[str, tuple[int, ...]]


def expected_shapes(repository: Path) -> dict[str, Shapes]:
    """What each model of the repository must answer with, by folder and tensor, without the batch dimension."""
    manifests = {path.parent.name: load_manifest(path.parent) for path in sorted(repository.glob(f"*/{MANIFEST_FILE}"))}
    return {folder: {output.tensor: output.shape for output in manifest.outputs} for folder, manifest in manifests.items()}


def check_policies(port: int, expected: Mapping[str, Shapes], *, timeout_s: float = 5.0) -> None:
    """Raises NotReadyError while Triton does not answer, StartError when it answers with the wrong shape. Blocks."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        if connection_status(connection, "/v2/health/ready") != 200:
            raise NotReadyError("not ready")
        for policy, shapes in expected.items():
            _check(connection, policy, shapes)
    except (OSError, HTTPException) as error:
        raise NotReadyError(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()


def connection_status(connection: HTTPConnection, path: str) -> int:
    """The status of a GET, its body read."""
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return response.status


def _check(connection: HTTPConnection, policy: str, shapes: Shapes) -> None:
    answered = _infer_zeros(connection, policy)
    for tensor, shape in shapes.items():
        if answered.get(tensor) != (1, *shape):
            raise StartError(
                f"triton: policy {policy!r} answers {tensor!r} with shape {answered.get(tensor)}, its manifest says "
                f"{(1, *shape)} (numpy 2 in Triton's environment makes answers empty)"
            )


def _infer_zeros(connection: HTTPConnection, policy: str) -> dict[str, tuple[int, ...]]:
    """The shape of every output, as far as its data bears it out."""
    connection.request("GET", f"/v2/models/{policy}")
    inputs = _answer(connection)[0]["inputs"]
    sizes = [(tensor, tuple(abs(size) for size in tensor["shape"])) for tensor in inputs]  # −1, any size, becomes 1
    zeros = [bytes(math.prod(shape) * _BYTES[tensor["datatype"]]) for tensor, shape in sizes]
    described = [
        {
            "name": tensor["name"],
            "datatype": tensor["datatype"],
            "shape": shape,
            "parameters": {"binary_data_size": len(data)},
        }
        for (tensor, shape), data in zip(sizes, zeros, strict=True)
    ]
    header = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
    body = b"".join([header, *zeros])
    connection.request("POST", f"/v2/models/{policy}/infer", body, {_HEADER_LENGTH: str(len(header))})
    answer, data_bytes = _answer(connection)
    if data_bytes != sum(math.prod(output["shape"]) * _BYTES[output["datatype"]] for output in answer["outputs"]):
        return {}
    return {output["name"]: tuple(output["shape"]) for output in answer["outputs"]}


def _answer(connection: HTTPConnection) -> tuple[Any, int]:
    """The JSON of the response and how many bytes of tensor data follow it."""
    response = connection.getresponse()
    body = response.read()
    if response.status == 503 and b"maximum queue size" in body:
        raise BusyError("its queue is full")
    if response.status != 200:
        raise NotReadyError(f"HTTP {response.status}: {body[:200].decode(errors='replace')}")
    length = int(response.headers.get(_HEADER_LENGTH, len(body)))
    return json.loads(body[:length]), len(body) - length
